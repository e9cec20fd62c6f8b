"""Wrong labels in place of right ones, for experiments on noisy data."""

from __future__ import annotations

from hashlib import sha256
from numbers import Real

import torch
from torch import Tensor

from kdlight.checks import check_range, check_type


def check_label_noise(share: float) -> None:
    """Raise an error for a share of wrong labels that is none.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not in [0, 1].

    Example:
        >>> check_label_noise(1.5)
        Traceback (most recent call last):
        ValueError: label_noise must be in [0.0, 1.0], got 1.5
    """
    check_type("label_noise", share, Real, "a number")
    check_range("label_noise", share, 0.0, 1.0)


def with_wrong_labels(labels: Tensor, *, share: float, classes: int, seed: int) -> Tensor:
    """Return the labels, of which a share is replaced by another class, ``(n,) -> (n,)``.

    Which ones, and by which class, depends on the seed and the number of labels only. All other
    classes are equally likely (symmetric noise).

    Args:
        labels: integers from 0 to ``classes - 1``.
        share: share of the labels to replace, rounded to a number of labels.
        classes: number of classes, at least 2.
        seed: seed of the choice.

    Example:
        >>> noisy = with_wrong_labels(torch.zeros(10).long(), share=0.3, classes=4, seed=0)
        >>> (noisy != 0).sum()
        tensor(3)
    """
    # not the seed itself: a loader that shuffles with it would serve all wrong labels first
    digest = sha256(f"label noise:{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, classes, (len(chosen),), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy
