"""Labels: the index of positions that do not count, and a check of shape and type."""

from __future__ import annotations

from torch import Tensor

IGNORE_INDEX = -100
"""Label of a position that does not count, as in `torch.nn.functional.cross_entropy`."""


def check_mask(name: str, mask: Tensor | None) -> None:
    """Raise an error for a mask of floating-point numbers, which may be meant as weights.

    Raises:
        TypeError: If the mask is floating point.

    >>> import torch
    >>> check_mask("mask", torch.tensor([1.0, 0.5]))
    Traceback (most recent call last):
    TypeError: mask must be boolean, True at valid positions, got torch.float32; pass mask != 0
    """
    if mask is not None and (mask.is_floating_point() or mask.is_complex()):
        raise TypeError(
            f"{name} must be boolean, True at valid positions, got {mask.dtype}; pass {name} != 0"
        )


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise an error unless there is one integer label per position.

    Raises:
        ValueError: If the labels do not have the shape of the logits without their last axis.
        TypeError: If the labels are not integers.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels must have one id per position, {tuple(logits.shape[:-1])} for logits "
            f"{tuple(logits.shape)}, got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers, got {labels.dtype}")
