"""The gate of a routed distillation: from one row a sample to a number for each teacher."""

from __future__ import annotations

from torch import Tensor, nn

from kdlight.checks import check_at_least


class GateNetwork(nn.Module):
    """Two linear layers without an activation between them, (n, C) -> (n, K).

    The softmax of its outputs are the weights of K teachers. Without an activation it is a linear
    classifier of samples, as in the code of Li, Yang et al., "MST-Distill: Mixture of Specialized
    Teachers for Cross-Modal Knowledge Distillation", 2025.

    Args:
        size: C, the numbers in a row.
        teachers: K, the number of teachers.

    Raises:
        ValueError: a size below 1, or fewer than two teachers.

    Example:
        >>> import torch
        >>> GateNetwork(7, 3)(torch.zeros(4, 7)).shape
        torch.Size([4, 3])
    """

    def __init__(self, size: int, teachers: int) -> None:
        super().__init__()
        check_at_least("size", size, 1)
        check_at_least("teachers", teachers, 2)
        self.size = size
        self.hidden = nn.Linear(size, 2 * size)
        self.output = nn.Linear(2 * size, teachers)

    def forward(self, rows: Tensor) -> Tensor:
        """Compute the logits of the teachers."""
        return self.output(self.hidden(rows))
