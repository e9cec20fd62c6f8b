"""The weights of several teachers, added up for the log."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class WeightSums:
    """The sums of the weights over the positions that were evaluated, for the log.

    Attributes:
        total: the sum of each weight ``(K,)``; None as long as nothing was evaluated.
        count: the number of positions; a tensor where other ranks evaluated some of them.

    Example:
        >>> import torch
        >>> sums = WeightSums()
        >>> sums.add(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        >>> sums.means()
        tensor([0.7500, 0.2500])
    """

    total: Tensor | None = None
    count: int | Tensor = 0

    def add(self, weights: Tensor) -> None:
        """Add weights ``(..., K)``."""
        flat = weights.detach().reshape(weights.shape[:-1].numel(), weights.shape[-1])
        total = flat.sum(0)
        self.total = total if self.total is None else self.total + total
        self.count = self.count + len(flat)  # a tensor may be known elsewhere

    def means(self) -> Tensor | None:
        """Return the mean of each weight ``(K,)``, 0 without a position; None before `add`."""
        if self.total is None:
            return None
        count = self.count
        return self.total / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
