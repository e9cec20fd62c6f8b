"""The head of a distribution: its most likely tokens, up to a probability."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdlight.losses.likeliest import is_in_memory

FIRST = 2048
"""Number of most likely tokens among which the head is looked for first, on a CPU."""


@torch.no_grad()
def head_of_mass(p: Tensor, mass: float) -> Tensor:
    """Return 1 at tokens of the head and 0 at others, (..., V) -> (..., V), in the type of ``p``.

    The head consists of the most likely tokens, in order, as long as the sum of their probabilities
    is at most ``mass``. It holds at least one token; of equally likely tokens the first come first.

    On a CPU only the values are sorted, without their places, and only as many as needed. On an
    accelerator and in compiled code, where nothing may depend on a value, it is a stable sort.

    Args:
        p: Probabilities.
        mass: The largest probability of the head. All tokens belong to one of 1, whatever the
            rounding of their sum.

    >>> head_of_mass(torch.tensor([0.25, 0.5, 0.125, 0.125]), 0.9)
    tensor([1., 1., 1., 0.])
    """
    if mass >= 1:
        return torch.ones_like(p)
    if not is_in_memory(p):
        ordered, order = torch.sort(p, dim=-1, descending=True, stable=True)
        inside = (_size(ordered, mass) > torch.arange(p.shape[-1], device=p.device)).to(p.dtype)
        return torch.zeros_like(p).scatter(-1, order, inside)
    rows = p.reshape(-1, p.shape[-1])
    lowest, ties = _lowest(rows, mass)
    head = torch.ge(rows, lowest, out=torch.empty_like(rows))
    for row in (ties >= 0).nonzero()[:, 0].tolist():
        equal = np.flatnonzero(rows[row].numpy() == lowest[row].numpy())
        head[row, torch.from_numpy(equal[int(ties[row]) :])] = 0.0
    return head.view(p.shape)


def _lowest(p: Tensor, mass: float, first: int = FIRST) -> tuple[Tensor, Tensor]:
    """The lowest probability in the head, and how many tokens of just this one belong to it.

    Shapes (n, V) -> (n, 1), (n,); the number is -1 where all of them do.
    """
    width = p.shape[-1]
    numbers = p.numpy()
    if first < width:
        numbers = np.partition(numbers, width - first, -1)[:, width - first :]
    ordered = torch.from_numpy(np.sort(numbers, -1)).flip(-1)
    size = _size(ordered, mass)
    lowest = ordered.gather(-1, size - 1)
    following = ordered.gather(-1, size.clamp(max=ordered.shape[-1] - 1))
    cut = (following == lowest) & (size < ordered.shape[-1])
    ties = torch.where(cut, size - (ordered > lowest).sum(-1, keepdim=True), -1).squeeze(-1)
    short = (size == ordered.shape[-1]).squeeze(-1)
    if first < width and bool(short.any()):
        lowest[short], ties[short] = _lowest(p[short], mass, width)
    return lowest, ties


def _size(ordered: Tensor, mass: float) -> Tensor:
    """The number of tokens in the head, of probabilities in descending order: (n, k) -> (n, 1)."""
    return (ordered.cumsum(-1) <= mass).sum(-1, keepdim=True).clamp(min=1)
