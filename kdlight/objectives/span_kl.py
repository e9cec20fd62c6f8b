"""Span consistency: neighbours within a span go together as they do in the teacher."""

from __future__ import annotations

from math import inf
from typing import Any

from torch import Tensor

from kdlight.losses.span_kl import DISTANCES, Distance, pair_values, pairs
from kdlight.objectives.base import Objective, Step, check_vocabularies
from kdlight.objectives.pairs import side_by_side
from kdlight.reduce import Loss, token_sum


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
        >>> SpanKL()(Step(logits, logits, span_ids=ids)).count
        tensor(3)
    """

    unit = "pair"

    def __init__(self, *, distance: Distance = "kl", temperature: float = 1.0) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {DISTANCES}, got {distance!r}")
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
        self.distance: Distance = distance
        self.temperature = float(temperature)

    def check(self, step: Step) -> None:
        """Besides what every objective needs: span ids, and one vocabulary."""
        super().check(step)
        assert step.teacher is not None
        check_vocabularies(step.student.shape[-1], step.teacher.shape[-1])
        if step.span_ids is None:
            raise ValueError(
                "SpanKL needs to know which positions form spans, and the step has no span_ids;"
                " give the data module spans=..., or the batch 'span_ids' aligned like labels"
            )

    def forward(self, step: Step) -> Loss:
        """Sum over pairs."""
        self.check(step)
        assert step.teacher is not None
        assert step.span_ids is not None
        first = pairs(step.span_ids, step.student.shape[:-1], step.mask)
        return token_sum(
            self._rows,
            side_by_side(step.student, first),
            side_by_side(step.teacher, first),
            chunked=step.chunked,
        )

    def _rows(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        return pair_values(student, teacher, distance=self.distance, temperature=self.temperature)
