"""Span consistency: neighbours within a span go together as they do in the teacher."""

from __future__ import annotations

from math import inf
from typing import Any

from torch import Tensor

from kdlight.losses.span_kl import DISTANCES, Distance, pair_values, pairs
from kdlight.objectives.base import Objective, check_vocabularies
from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss, token_sum
from kdlight.sources import pair_with_next


class SpanKL(Objective):
    """The span loss, `kdlight.losses.span_kl`, summed over pairs of neighbours.

    Liu et al., "Multi-Granularity Semantic Revision for Large Language Model Distillation", 2024.
    A term beside a token objective such as `DACKL`, in a `Weighted`, which brings its mean over
    pairs to tokens.
    The step says which positions form spans (``span_ids``); `kdlight.data.TextDataModule` finds
    them with its argument ``spans``. It is no sum over tokens, but one over pairs, which the driver
    evaluates like rows: two positions side by side, in chunks where there are many.

    Args:
        distance: ``"kl"`` or ``"mse"``.
        temperature: divides both logits, above 0. May be moved by a callback.

    Raises:
        ValueError: an argument out of range; a step without span ids, or whose ids do not fit.

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
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {DISTANCES}, got {distance!r}")
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
        self.distance: Distance = distance
        self.temperature = float(temperature)

    def check(self, inputs: LossInputs) -> None:
        """Besides what every objective needs: span ids, and one vocabulary."""
        super().check(inputs)
        assert inputs.teacher is not None
        check_vocabularies(inputs.student.shape[-1], inputs.teacher.shape[-1])
        if inputs.span_ids is None:
            raise ValueError(
                "SpanKL needs to know which positions form spans, and the inputs has no span_ids;"
                " give the data module spans=..., or the batch 'span_ids' aligned like labels"
            )

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum over pairs."""
        self.check(inputs)
        assert inputs.teacher is not None
        assert inputs.span_ids is not None
        first = pairs(inputs.span_ids, inputs.student.shape[:-1], inputs.mask)
        return token_sum(
            self._rows,
            pair_with_next(inputs.student, first),
            pair_with_next(inputs.teacher, first),
            chunked=inputs.chunked,
        )

    def _rows(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return pair_values(student, teacher, distance=self.distance, temperature=self.temperature)
