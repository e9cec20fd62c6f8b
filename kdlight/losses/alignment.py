"""Which position of the teacher stands beside which of the student, by their order alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.losses.geometry import Points, points


class Pairs(NamedTuple):
    """Positions that stand beside each other, sequence after sequence.

    Attributes:
        student: Indices among the student's flattened positions, (n,).
        teacher: Indices among the teacher's, (n,).
        lengths: Pairs of each sequence, (B,), some of which may have none.
    """

    student: Tensor
    teacher: Tensor
    lengths: Tensor


def align(
    student: torch.Size,
    teacher: torch.Size,
    student_mask: Tensor | None = None,
    teacher_mask: Tensor | None = None,
    *,
    device: torch.device | None = None,
) -> Pairs:
    """Pair the k-th position that counts with the k-th, (B, T, V), (B, T', V'), ... -> pairs.

    The longer side of each sequence is cut. Masks are those of aligned logits: a position counts if
    its logits predict a token that does. Counting from the first token itself instead compares
    predictions of one token on one side with those of the next on the other.

    Args:
        student: Shape of the student's logits, (B, T, V); without B, they are one sequence.
        teacher: Shape of the teacher's, of as many sequences.
        student_mask: True where a position counts; None keeps all.
        teacher_mask: The same; None for ``student_mask`` where the positions are the same.
        device: Of the indices where there is no mask.

    Raises:
        ValueError: If the numbers of sequences differ, or a mask does not fit.

    >>> student, teacher = torch.Size([1, 3, 5]), torch.Size([1, 4, 7])
    >>> align(student, teacher, teacher_mask=torch.tensor([[False, True, True, False]]))[:2]
    (tensor([0, 1]), tensor([1, 2]))
    """
    if teacher_mask is None and student[:-1] == teacher[:-1]:
        teacher_mask = student_mask
    kept = [
        _kept(side, shape, mask, device)
        for side, shape, mask in (
            ("student", student, student_mask),
            ("teacher", teacher, teacher_mask),
        )
    ]
    if len(kept[0]) != len(kept[1]):
        raise ValueError(
            f"student and teacher must have the same sequences, got {len(kept[0])} of the student,"
            f" {len(kept[1])} of the teacher"
        )
    lengths = torch.minimum(*(mask.sum(-1) for mask in kept))
    ours, theirs = (
        (mask & (mask.cumsum(-1) <= lengths[:, None])).flatten().nonzero().squeeze(-1)
        for mask in kept
    )
    return Pairs(ours, theirs, lengths)


def _kept(side: str, shape: torch.Size, mask: Tensor | None, device: torch.device | None) -> Tensor:
    positions = shape[:-1]
    if mask is None:
        mask = torch.ones(positions, dtype=torch.bool, device=device)
    if mask.shape != positions or mask.dim() > 2:
        raise ValueError(
            f"{side} logits must be (B, T, V) with a {side}_mask (B, T), got {tuple(shape)} and"
            f" {tuple(mask.shape)}"
        )
    return (mask != 0).reshape(-1, positions[-1] if positions else 1)


def sequences(shape: torch.Size, mask: Tensor | None, *, side: str = "student") -> list[Points]:
    """Positions that count of each sequence, (B, T, V), (B, T) -> B of them; without B, of one.

    >>> [each.count for each in sequences(torch.Size([4, 5]), None)]
    [4]
    """
    if mask is not None and mask.shape == shape[:-1]:
        mask = mask.reshape(*(1,) * (2 - mask.dim()), *mask.shape)
    whole = torch.Size([*(1,) * (3 - len(shape)), *shape])
    return points(whole, mask, geometry="sequence", side=side)
