"""Tensors of a few numbers, filled on the device of another tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def numbers_like(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Return a tensor ``(n,)`` of the dtype and on the device of ``like``.

    A tensor made of a list would be copied to the device, for which the host waits until the device
    has done all that it was given before.

    >>> numbers_like([1, 2], torch.zeros(3))
    tensor([1., 2.])
    """
    filled = [like.new_full((), number) for number in numbers]
    return torch.stack(filled) if filled else like.new_empty(0)
