"""Copies of the weights of a network, to return to."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class WeightSnapshots:
    """Keeps the last copy of weights that was confirmed to be good, on the CPU.

    Args:
        weights: the weights; the first copy is made of them, and is good.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> snapshots = WeightSnapshots([weight])
        >>> _ = weight.data.fill_(2.0)
        >>> snapshots.restore([weight])
        >>> weight.item()
        1.0
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._good = _copy(weights)
        self._candidate: list[Tensor] | None = None

    def add(self, weights: Iterable[Tensor]) -> None:
        """Make a copy that becomes the good one when it is confirmed."""
        self._candidate = _copy(weights)

    def confirm(self, good: bool) -> None:
        """Keep the last copy that was added if it is good, else drop it."""
        if good and self._candidate is not None:
            self._good = self._candidate
        self._candidate = None

    @torch.no_grad()
    def restore(self, weights: Iterable[Tensor]) -> None:
        """Set the weights to the good copy."""
        self._candidate = None
        for weight, saved in zip(weights, self._good, strict=True):
            weight.copy_(saved.to(weight.device))


def _copy(weights: Iterable[Tensor]) -> list[Tensor]:
    return [weight.detach().cpu().clone() for weight in weights]
