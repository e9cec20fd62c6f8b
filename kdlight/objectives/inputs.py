"""The inputs of a loss: logits of student and teacher, labels, and masks of valid positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlight.reduce import Chunked
from kdlight.sources import Logits, LogitsSource, as_source

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

OPTIONAL_FIELDS = ("teacher_mask", "rejected", "span_ids", "index")
"""Fields of `LossInputs` that are read from a batch that has an entry of that name."""


@dataclass(frozen=True, init=False)
class LossInputs:
    """What an objective is evaluated on; labels are already aligned with the logits.

    Attributes:
        student: logits of the student, a source of ``(..., V)``; a tensor is wrapped.
        teacher: logits of the teacher on the same positions, or None without a teacher.
        labels: aligned labels ``(...)``: each stands at the position that predicts it. Those of a
            regression are floating-point numbers ``(..., V)``.
        mask: boolean ``(...)``, True where a position is valid; None if all are.
        teacher_mask: mask of a teacher with positions of its own (another tokenizer).
        rejected: boolean ``(B,)``, True where a sequence is a rejected one.
        span_ids: aligned integers ``(B, T)``, the span of a position, -1 outside of all spans.
        index: integers ``(B,)``, the place of each sample in the data set.
        student_features: features of the student by path, see `kdlight.features.FeaturePath`.
        teacher_features: features of the teacher by path.
        feature_masks: boolean ``(B, T)`` by the student's path, False at padding.
        own_positions: paths of the student whose positions are not those of the logits, even where
            there are as many, such as the tokens of an encoder.
        group: the ranks that hold different data, for losses over the global batch; None for all.
        row_group: the ranks that hold the same data, which divide the rows of a loss among them,
            see `kdlight.reduce.token_sum`; None for no others.
        chunked: whether logits are computed in chunks, see `kdlight.reduce.Chunking`.

    Raises:
        TypeError: a mask or ``rejected`` is not boolean; logits are neither a tensor nor a source.

    Example:
        >>> inputs = LossInputs(torch.zeros(2, 5), torch.zeros(2, 5), mask=torch.arange(2) > 0)
        >>> inputs.student.shape, inputs.valid_positions()
        (torch.Size([2, 5]), tensor([1]))
    """

    student: LogitsSource
    teacher: LogitsSource | None
    labels: Tensor | None
    mask: Tensor | None
    teacher_mask: Tensor | None
    rejected: Tensor | None
    span_ids: Tensor | None
    index: Tensor | None
    student_features: Mapping[str, Tensor] | None
    teacher_features: Mapping[str, Tensor] | None
    feature_masks: Mapping[str, Tensor] | None
    own_positions: Collection[str]
    group: ProcessGroup | None
    row_group: ProcessGroup | None
    chunked: Chunked

    def __init__(
        self,
        student: Logits,
        teacher: Logits | None = None,
        labels: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        teacher_mask: Tensor | None = None,
        rejected: Tensor | None = None,
        span_ids: Tensor | None = None,
        index: Tensor | None = None,
        student_features: Mapping[str, Tensor] | None = None,
        teacher_features: Mapping[str, Tensor] | None = None,
        feature_masks: Mapping[str, Tensor] | None = None,
        own_positions: Collection[str] = (),
        group: ProcessGroup | None = None,
        row_group: ProcessGroup | None = None,
        chunked: Chunked = "auto",
    ) -> None:
        fields: dict[str, Any] = {
            "student": as_source(student),
            "teacher": None if teacher is None else as_source(teacher),
            "labels": labels,
            "mask": mask,
            "teacher_mask": teacher_mask,
            "rejected": rejected,
            "span_ids": span_ids,
            "index": index,
            "student_features": student_features,
            "teacher_features": teacher_features,
            "feature_masks": feature_masks,
            "own_positions": own_positions,
            "group": group,
            "row_group": row_group,
            "chunked": chunked,
        }
        for name in ("mask", "teacher_mask", "rejected"):
            if fields[name] is not None and fields[name].dtype is not torch.bool:
                raise TypeError(
                    f"{name} must be a boolean tensor, got {fields[name].dtype}; pass {name} != 0"
                )
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def teachers(self) -> Mapping[str, LogitsSource]:
        """Logits of several teachers by name, where ``teacher`` combines them."""
        return {} if self.teacher is None else self.teacher.parts

    @property
    def class_labels(self) -> Tensor | None:
        """The labels, unless they are those of a regression."""
        is_class = self.labels is not None and not self.labels.is_floating_point()
        return self.labels if is_class else None

    @property
    def valid_teacher_mask(self) -> Tensor | None:
        """The teacher's mask: its own, or ``mask`` where both have the same positions."""
        if self.teacher_mask is not None or self.teacher is None:
            return self.teacher_mask
        return self.mask if self.teacher.shape[:-1] == self.student.shape[:-1] else None

    @property
    def position_name(self) -> str:
        """What a position is: a ``"sample"``, a ``"token"`` of one, a ``"position"`` in a map."""
        return {1: "sample", 2: "sample", 3: "token"}.get(len(self.student.shape), "position")

    def valid_count(self) -> Tensor:
        """Return the number of valid positions, a scalar on the device."""
        if self.mask is not None:
            return self.mask.sum()
        return torch.full((), prod(self.student.shape[:-1]), device=self.student.device)

    def valid_positions(self) -> Tensor:
        """Return the indices ``(n,)`` of the valid positions among the flattened ones."""
        if self.mask is not None:
            return self.mask.flatten().nonzero().squeeze(-1)
        return torch.arange(prod(self.student.shape[:-1]))
