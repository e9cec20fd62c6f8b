"""Which predictions are the points of one transport problem."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

GEOMETRIES = ("batch", "sequence", "position")


class Points(NamedTuple):
    """Points of one problem: which of the flattened positions, None for all, and how many."""

    index: Tensor | slice | None
    count: int


def problems(
    student: torch.Size,
    teacher: torch.Size,
    mask: Tensor | None = None,
    teacher_mask: Tensor | None = None,
    *,
    geometry: str = "batch",
) -> list[tuple[Points, Points]]:
    """The problems that have points on both sides, (..., V), (..., V), (...), (...) -> pairs.

    Args:
        student: Shape of the student's logits.
        teacher: Shape of the teacher's.
        mask: True where a position of the student counts; None keeps all.
        teacher_mask: The same of the teacher; None for ``mask`` where the positions are the same.
        geometry: ``"batch"``, all positions are one problem; ``"sequence"``, those of each sequence
            are; ``"position"``, those at the same place of all sequences are.

    Raises:
        ValueError: If a mask does not fit, or the logits have no sequences to tell apart.

    >>> shape = torch.Size([2, 3, 5])
    >>> [one.count for one, _ in problems(shape, shape, geometry="sequence")]
    [3, 3]
    """
    if geometry not in GEOMETRIES:
        raise ValueError(f"geometry must be one of {', '.join(GEOMETRIES)}, got {geometry!r}")
    if teacher_mask is None and student[:-1] == teacher[:-1]:
        teacher_mask = mask
    ours = points(student, mask, geometry=geometry)
    theirs = points(teacher, teacher_mask, geometry=geometry, side="teacher")
    if len(ours) != len(theirs):
        raise ValueError(
            f"geometry={geometry!r} pairs the {len(ours)} problems of the student with those of"
            f" the teacher, who has {len(theirs)}; geometry='batch' needs no such pairs"
        )
    pairs = zip(ours, theirs, strict=True)
    return [(one, other) for one, other in pairs if one.count and other.count]


def points(
    shape: torch.Size, mask: Tensor | None, *, geometry: str = "batch", side: str = "student"
) -> list[Points]:
    """Points of each problem on one side, some of which may have none."""
    positions = shape[:-1]
    if mask is not None and mask.shape != positions:
        name = "mask" if side == "student" else "teacher_mask"
        raise ValueError(
            f"{name} must stand for the {side}'s positions {tuple(positions)},"
            f" got {tuple(mask.shape)}"
        )
    if geometry == "batch":
        if mask is None:
            return [Points(None, prod(positions))]
        index = mask.flatten().nonzero().squeeze(-1)
        return [Points(index, len(index))]
    if len(positions) != 2:
        raise ValueError(
            f"geometry={geometry!r} needs logits of shape (B, T, V), the {side}'s are"
            f" {tuple(shape)}; use geometry='batch'"
        )
    rows, columns = positions
    if mask is None and geometry == "sequence":
        return [Points(slice(b * columns, (b + 1) * columns), columns) for b in range(rows)]
    if mask is None:
        return [Points(slice(t, None, columns), rows) for t in range(columns)]
    index = torch.arange(rows * columns, device=mask.device).view(positions)
    index, kept = (index, mask) if geometry == "sequence" else (index.T, mask.T)
    counts = (kept != 0).sum(-1).tolist()
    split = index[kept != 0].split(counts)
    return [Points(each, count) for each, count in zip(split, counts, strict=True)]
