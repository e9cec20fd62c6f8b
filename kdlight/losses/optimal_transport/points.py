"""The points of transport problems: predictions at valid positions, grouped by a geometry."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.checks import check_choice, check_positive
from kdlight.losses.labels import check_mask

GEOMETRIES = ("batch", "sequence", "position")


class Points(NamedTuple):
    """The points of one problem.

    Attributes:
        index: Their indices among the flattened positions; None for all positions.
        count: Their number.
    """

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
    """Pair the problems of student and teacher, (..., V), (..., V), (...), (...) -> pairs.

    Args:
        student: Shape of the student's logits.
        teacher: Shape of the teacher's logits.
        mask: True at the student's valid positions; None means all.
        teacher_mask: True at the teacher's valid positions. None means ``mask`` if the positions
            have the same shape, else all.
        geometry: ``"batch"``, all positions form one problem; ``"sequence"``, one problem per
            sequence; ``"position"``, one problem per position, across all sequences.

    Returns:
        The problems with at least one point on both sides.

    Raises:
        ValueError: If a mask does not fit, or the geometry needs sequences and there are none.

    >>> shape = torch.Size([2, 3, 5])
    >>> [one.count for one, _ in problems(shape, shape, geometry="sequence")]
    [3, 3]
    """
    check_choice("geometry", geometry, GEOMETRIES)
    if teacher_mask is None and student[:-1] == teacher[:-1]:
        teacher_mask = mask
    of_student = points(student, mask, geometry=geometry)
    of_teacher = of_student
    if teacher_mask is not mask or teacher[:-1] != student[:-1]:
        of_teacher = points(teacher, teacher_mask, geometry=geometry, side="teacher")
    if len(of_student) != len(of_teacher):
        raise ValueError(
            f"geometry={geometry!r} pairs the {len(of_student)} problems of the student with those"
            f" of the teacher, which has {len(of_teacher)}; use geometry='batch', which needs no"
            " such pairs"
        )
    pairs = zip(of_student, of_teacher, strict=True)
    return [(one, other) for one, other in pairs if one.count and other.count]


def points(
    shape: torch.Size, mask: Tensor | None, *, geometry: str = "batch", side: str = "student"
) -> list[Points]:
    """Find the points of each problem on one side, some of which may have none.

    Args:
        shape: Shape of the logits, (..., V).
        mask: True at valid positions, (...); None means all.
        geometry: See `problems`.
        side: ``"student"`` or ``"teacher"``, for error messages.

    Raises:
        ValueError: If the mask does not fit, or the geometry needs sequences and there are none.
    """
    positions = shape[:-1]
    if mask is not None and mask.shape != positions:
        name = "mask" if side == "student" else "teacher_mask"
        raise ValueError(
            f"{name} must have the shape of the {side}'s positions, {tuple(positions)},"
            f" got {tuple(mask.shape)}"
        )
    check_mask("mask" if side == "student" else "teacher_mask", mask)
    if geometry == "batch":
        if mask is None:
            return [Points(None, prod(positions))]
        index = mask.flatten().nonzero().squeeze(-1)
        return [Points(index, len(index))]
    if len(positions) != 2:
        raise ValueError(
            f"geometry={geometry!r} needs logits of shape (B, T, V), got {tuple(shape)} for the"
            f" {side}; use geometry='batch'"
        )
    rows, columns = positions
    if mask is None and geometry == "sequence":
        return [Points(slice(b * columns, (b + 1) * columns), columns) for b in range(rows)]
    if mask is None:
        return [Points(slice(t, None, columns), rows) for t in range(columns)]
    # on the host, so that a device is waited for once
    index, valid = torch.arange(rows * columns).view(positions), (mask != 0).cpu()
    index, valid = (index, valid) if geometry == "sequence" else (index.T, valid.T)
    split = index[valid].to(mask.device).split(valid.sum(-1).tolist())
    counts = [len(each) for each in split]
    return [Points(each, count) for each, count in zip(split, counts, strict=True)]


def sequences(shape: torch.Size, mask: Tensor | None, *, side: str = "student") -> list[Points]:
    """Valid positions of each sequence, (B, T, V), (B, T) -> B of them; without B, one.

    >>> [each.count for each in sequences(torch.Size([4, 5]), None)]
    [4]
    """
    if mask is not None and mask.shape == shape[:-1]:
        mask = mask.reshape(*(1,) * (2 - mask.dim()), *mask.shape)
    batched = torch.Size([*(1,) * (3 - len(shape)), *shape])
    return points(batched, mask, geometry="sequence", side=side)


def check_points(*, temperature: float, reduction: str, p: int) -> None:
    """Raise an error for hyper-parameters of the distances or their reduction out of range.

    Raises:
        ValueError: If one is; the message names it and the value.
    """
    check_positive("temperature", temperature)
    check_choice("reduction", reduction, ("mean", "sum"))
    check_choice("p", p, (1, 2))


def check_widths(student: int, teacher: int) -> None:
    """Raise an error for vocabularies of two sizes: there is no distance between their points.

    Raises:
        ValueError: If the sizes differ.
    """
    if student != teacher:
        raise ValueError(
            f"the vocabularies differ: {student} and {teacher} entries; there is no distance"
            " between points of different width: use losses.uld or losses.multi_level_ot for two"
            " tokenizers"
        )
