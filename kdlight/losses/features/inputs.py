"""Checks of features, and their conversion to one type of float32 or wider."""

from __future__ import annotations

import torch
from torch import Tensor


def feature_pair(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Convert the features of both sides to one type, (...), (...) -> (...), (...).

    Both results have the wider of the two types, and at least float32.

    Raises:
        TypeError: If either is not floating point.

    >>> [x.dtype for x in feature_pair(torch.zeros(2).bfloat16(), torch.zeros(3).half())]
    [torch.float32, torch.float32]
    """
    for name, features in (("student", student), ("teacher", teacher)):
        if not features.is_floating_point():
            raise TypeError(f"{name} features must be floating point, got {features.dtype}")
    wider = torch.promote_types(student.dtype, teacher.dtype)
    wider = torch.promote_types(wider, torch.float32)
    return student.to(wider), teacher.to(wider)


def check_rows(student: Tensor, teacher: Tensor) -> None:
    """Raise an error unless both are rows of one batch, (B, D), (B, D').

    Raises:
        ValueError: If a side does not have two axes, has a width of 0, or another B.

    >>> check_rows(torch.zeros(4, 3, 2, 2), torch.zeros(4, 5))
    Traceback (most recent call last):
    ValueError: student features must be rows (B, D), got shape (4, 3, 2, 2); average or flatten ...
    """
    for name, features in (("student", student), ("teacher", teacher)):
        if features.dim() != 2:
            raise ValueError(
                f"{name} features must be rows (B, D), got shape {tuple(features.shape)}; average "
                "or flatten the axes after the first, or select the rows that count"
            )
    check_batch(student, teacher)


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Raise an error unless both are maps of one batch, (B, C, ...), (B, C', ...).

    Raises:
        ValueError: If a side has fewer than three axes, is empty within a sample, or has another B.

    >>> check_maps(torch.zeros(4, 3, 2, 2), torch.zeros(4, 5))
    Traceback (most recent call last):
    ValueError: teacher features must be maps (B, C, ...) of channels, got shape (4, 5); for ...
    """
    for name, features in (("student", student), ("teacher", teacher)):
        if features.dim() < 3:
            raise ValueError(
                f"{name} features must be maps (B, C, ...) of channels, got shape "
                f"{tuple(features.shape)}; for rows (B, D) use a loss on rows"
            )
    check_batch(student, teacher)


def check_batch(student: Tensor, teacher: Tensor) -> None:
    """Raise an error unless both sides have the same samples, (B, ...), (B, ...).

    Raises:
        ValueError: If a side has no batch axis, has samples without entries, or has another B.

    >>> check_batch(torch.zeros(4, 3), torch.zeros(5, 3))
    Traceback (most recent call last):
    ValueError: student and teacher features must be of the same samples, got shapes (4, 3) and ...
    """
    for name, features in (("student", student), ("teacher", teacher)):
        if features.dim() < 2 or not features.shape[1:].numel():
            raise ValueError(
                f"{name} features must have a batch axis and at least one entry per sample, "
                f"got shape {tuple(features.shape)}"
            )
    if len(student) != len(teacher):
        raise ValueError(
            "student and teacher features must be of the same samples, got shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
