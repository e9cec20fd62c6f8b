"""The largest entries of each row in order, without sorting the others."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import Parameter

from kdlight.checks import can_read


@torch.no_grad()
def likeliest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest entries and their places, (..., V) -> (..., count), (..., count).

    They are in descending order, and ties in the order of the row: the first columns of a stable
    sort. On an accelerator and in compiled code, ``torch.topk`` finds them, with ties in any order.
    The places in a row with NaN are any.

    Args:
        scores: Logits, probabilities or their logarithms, of any sign.
        count: Number of entries, at most V.

    >>> likeliest(torch.tensor([[0.5, 3.0, 0.5, -1.0]]), 2)
    (tensor([[3.0000, 0.5000]]), tensor([[1, 0]]))
    """
    width = scores.shape[-1]
    if not is_in_memory(scores):
        if count < width:
            return scores.topk(count, -1)  # type: ignore[return-value]
        return torch.sort(scores, dim=-1, descending=True, stable=True)  # type: ignore[return-value]
    rows = scores.reshape(-1, width)
    places = torch.arange(width).expand_as(rows) if count == width else _places(rows, count)
    order = _sorted(rows.gather(-1, places), places)
    shape = (*scores.shape[:-1], count)
    return rows.gather(-1, order).view(shape), order.view(shape)


def is_in_memory(tensor: Tensor) -> bool:
    """Return whether NumPy can read a tensor: it is on the CPU, and no function is traced.

    >>> is_in_memory(torch.zeros(1)), is_in_memory(torch.zeros(1, device="meta"))
    (True, False)
    """
    # a subclass, such as the tensors of FakeTensorMode, may have no memory of its own; those within
    # torch.func.vmap and torch.func.grad have none
    if not can_read(tensor) or type(tensor) not in (Tensor, Parameter):
        return False
    return not is_functorch_wrapped_tensor(tensor)


def _places(rows: Tensor, count: int) -> Tensor:
    """The places of the largest entries, in the order of the row, (n, V) -> (n, count)."""
    numbers, (size, width) = rows.numpy(), rows.shape
    # a copy: the view keeps all of what was partitioned alive
    lowest = np.partition(numbers, width - count, -1)[:, width - count].copy()
    places = np.empty((size, count), dtype=np.int64)
    for row, least, found in zip(numbers, lowest, places, strict=True):
        enough = np.flatnonzero(row >= least)
        if len(enough) > count:  # ties at the lowest value, of which the last are left out
            ties = np.flatnonzero(row[enough] == least)
            enough = np.delete(enough, ties[count - len(enough) :])
        # NaN is above nothing; the softmax spreads it over the row, whose order does not matter
        found[:] = enough if len(enough) == count else range(count)
    return torch.from_numpy(places)


def _sorted(values: Tensor, places: Tensor) -> Tensor:
    """Sort places by their values, the largest first, ties by place: twice (n, k) -> (n, k)."""
    # an empty array has strides of 0, of which no view of another type can be made
    if values.dtype != torch.float32 or sys.byteorder != "little" or not values.numel():
        order = torch.sort(values, dim=-1, descending=True, stable=True).indices
        return places.gather(-1, order)
    # NumPy sorts integers of 64 bits by vector instructions, but no numbers with their places
    bits = (values + 0.0).view(torch.int32)  # there are two zeros, whose sum is the positive one
    # as integers, negative floats are in reverse order; the complement puts the largest first
    bits = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits).bitwise_not_()
    keys = torch.stack([places.int(), bits], -1).view(torch.int64).squeeze(-1)
    keys = torch.from_numpy(np.sort(keys.numpy(), -1))
    return keys.view(torch.int32)[:, ::2].long()
