"""Span consistency: relations between neighbouring predictions, as in the teacher."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight.checks import check_choice, check_positive
from kdlight.losses.span_kl import DISTANCES, Distance, pair_values, pairs
from kdlight.objectives.base import Objective, check_vocabularies
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss, token_sum
from kdlight.sources import pair_with_next


class SpanKL(Objective):
    """The span loss, `kdlight.losses.span_kl`, summed over pairs of neighbouring positions.

    Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024.
    Use it in addition to a token objective such as `DACKL`, in a `Weighted`, which converts its
    mean over pairs to tokens. The field ``span_ids`` of the inputs holds the spans;
    `kdlight.data.TextDataModule` finds them with its argument ``spans``. The loss is a sum over
    pairs of positions. The driver evaluates a pair like a row, with both logits concatenated, and
    in chunks if there are many.

    Args:
        distance: ``"kl"`` or ``"mse"``.
        temperature: divides both logits, above 0. Callbacks may change it.

    Raises:
        ValueError: a hyper-parameter is out of range; span ids that are missing or do not fit.

    Example:
        >>> import torch
        >>> ids = torch.tensor([[0, 0, 0, -1], [1, 1, -1, -1]])
        >>> logits = torch.randn(2, 4, 7)
        >>> SpanKL()(LossInputs(logits, logits, span_ids=ids)).count
        tensor(3)
    """

    needs = frozenset({"teacher", "span_ids"})
    unit = "pair"

    def __init__(self, *, distance: Distance = "kl", temperature: float = 1.0) -> None:
        super().__init__()
        check_choice("distance", distance, DISTANCES)
        check_positive("temperature", temperature)
        self.distance: Distance = distance
        self.temperature = float(temperature)

    def check(self, inputs: LossInputs) -> None:
        """Check that everything needed is present, and that both sides have one vocabulary."""
        super().check(inputs)
        assert inputs.teacher is not None
        check_vocabularies(inputs.student.shape[-1], inputs.teacher.shape[-1])

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum the loss over the pairs of neighbours."""
        self.check(inputs)
        assert inputs.teacher is not None
        assert inputs.span_ids is not None
        first = pairs(inputs.span_ids, inputs.student.shape[:-1], inputs.mask)
        return token_sum(
            self._pair_loss,
            pair_with_next(inputs.student, first),
            pair_with_next(inputs.teacher, first),
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )

    def _pair_loss(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return pair_values(student, teacher, distance=self.distance, temperature=self.temperature)
