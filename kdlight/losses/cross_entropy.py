"""Cross-entropy with the labels, per token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import FORBIDDEN, widen


def cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    r"""Negative log-likelihood of each label, (..., V), (...) -> (...).

    .. math:: -\log q_{y}

    The supervised term of a training recipe. Labels must already be aligned with the logits: they
    are not shifted here. The loss is 0 where the label is -100, and +inf where the student has a
    logit of -inf at the label.

    Args:
        student: Logits of q.
        labels: Token ids, or -100.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the labels do not have the shape of the logits without their last axis.
        TypeError: If the labels are not integers, or the logits not floating point.
        IndexError: If any other label is outside the vocabulary (a GPU raises a device-side
            assertion instead).

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([3, -100]))
    tensor([1.3863, 0.0000])
    """
    check_labels(student, labels)
    flat = widen(student).flatten(0, -2) if student.dim() > 1 else widen(student).unsqueeze(0)
    losses = functional.cross_entropy(
        flat, labels.flatten().long(), reduction="none", ignore_index=IGNORE_INDEX
    )
    # a label that is impossible costs +inf, however its logit says so, with the same gradient
    infinite = torch.zeros_like(losses).masked_fill_(losses > FORBIDDEN, torch.inf)
    return (losses + infinite).view(labels.shape)
