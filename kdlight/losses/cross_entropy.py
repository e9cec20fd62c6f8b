"""Cross-entropy with the labels, per token."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from kdlight.losses.log_space import widen

IGNORED = -100


def cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    r"""Negative log-likelihood of each label, (..., V), (...) -> (...).

    .. math:: -\log q_{y}

    The supervised half of a recipe. Labels are already aligned with the logits: nothing is shifted
    here. A label of -100 gives 0.

    Args:
        student: Logits of q.
        labels: Token ids, or -100.

    Raises:
        ValueError: If the labels do not have the shape of the logits without their last axis.
        IndexError: If another label is out of the vocabulary (a GPU asserts on the device).

    >>> import torch
    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([3, -100]))
    tensor([1.3863, 0.0000])
    """
    check_labels(student, labels)
    flat = widen(student).flatten(0, -2) if student.dim() > 1 else widen(student).unsqueeze(0)
    losses = functional.cross_entropy(
        flat, labels.flatten().long(), reduction="none", ignore_index=IGNORED
    )
    return losses.view(labels.shape)


def check_labels(student: Tensor, labels: Tensor) -> None:
    """Refuse labels that are not one integer a position.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If the labels are not integers.
    """
    if student.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels must have one id a position, {tuple(student.shape[:-1])} for logits "
            f"{tuple(student.shape)}, got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers, got {labels.dtype}")
