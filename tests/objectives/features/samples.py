"""Features beside logits: what the laws of `kdlight.testing` and the tests of this folder read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlight.objectives import OBJECTIVES, FeatureObjective, LossInputs, Objective
from kdlight.testing import Sample

PAIRS = {"layer": "teacher_layer"}
PATHS = ("layer", *(f"layer.{part}" for part in ("q", "q_proj", "k_proj", "v_proj")))
"""The same feature is that of a layer, and of all projections of `AttentionRelation` in it."""

FEATURES = {name for name, kind in OBJECTIVES.items() if issubclass(kind, FeatureObjective)}
"""Objectives that need ``pairs``, and have laws of their own in this folder."""


def build_with_pairs(kind: type[Objective], **options: Any) -> Objective:
    """Build an objective, with `PAIRS` where it needs pairs."""
    make: Any = kind
    return make(PAIRS, **options) if issubclass(kind, FeatureObjective) else make(**options)


def feature_fields(student: Tensor, teacher: Tensor) -> dict[str, Any]:
    """Return the fields of `LossInputs` with a feature for each side."""
    return {
        "student_features": dict.fromkeys(PATHS, student),
        "teacher_features": {f"teacher_{path}": teacher for path in PATHS},
    }


def feature_inputs(
    student: Tensor,
    teacher: Tensor,
    *,
    logits: Tensor | None = None,
    padding: Tensor | None = None,
    **fields: Any,
) -> LossInputs:
    """Return inputs with one feature a side, and logits of one position for each sample."""
    logits = torch.zeros(len(student), 3, dtype=torch.float64) if logits is None else logits
    masks = None if padding is None else dict.fromkeys(PATHS, padding)
    padding = fields.pop("padding", None)
    return LossInputs(
        logits,
        logits.detach(),
        feature_masks=masks,
        **feature_fields(student, teacher),
        **fields,
    )


@dataclass(frozen=True)
class FeatureSample(Sample):
    """A `Sample` whose rows are features.

    Attributes:
        shape: that of the feature of a sample, which a row is reshaped to; None where each row is
            that of a position of the logits.
    """

    shape: tuple[int, ...] | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...] | None) -> FeatureSample:
        """Draw a sample."""
        width = 7 if shape is None else torch.Size(shape).numel()
        drawn = Sample.draw(batch=2, positions=8, vocabulary=width)
        return cls(
            drawn.student, drawn.teacher, drawn.labels, drawn.mask, drawn.generator, shape=shape
        )

    def inputs(self, **changed: Any) -> LossInputs:
        """Return the rows as features; labels are left out."""
        changed = {"student": self.student, "teacher": self.teacher, **changed}
        student, teacher = changed.pop("student"), changed.pop("teacher")
        changed.pop("labels", None)
        logits = torch.zeros(*student.shape[:-1], 3, dtype=torch.float64)
        if self.shape is not None:
            samples = torch.Size(student.shape[:-1]).numel()
            student, teacher = (x.reshape(samples, *self.shape) for x in (student, teacher))
            logits = logits.reshape(samples, 3)
            if changed.get("mask") is not None:
                changed["mask"] = changed["mask"].flatten()
        return feature_inputs(student, teacher, logits=logits, **changed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw float64 normal numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
