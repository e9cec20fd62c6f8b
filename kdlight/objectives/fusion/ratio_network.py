"""The network of TGeo-KD that predicts how much the teacher counts beside the label."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlight.checks import check_integer

HIDDEN = (32, 16)


class RatioNetwork(nn.Sequential):
    """Predicts a ratio in (0, 1) from the features of each position, (n, F) -> (n,).

    Hidden layers of 32 and 16 units with a LeakyReLU of slope 0.01, and a sigmoid, as in the
    authors' code. Its parameters require no gradient: the loss of the student must not train it,
    so it is in no optimizer of a module, and strategies leave it alone. What trains it,
    `kdlight.callbacks.BilevelUpdate`, turns gradients on for the time of its update.

    Args:
        features: number F of features, at least 1.

    Raises:
        ValueError: ``features`` is below 1.

    Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge
    Distillation", 2024.

    Example:
        >>> network = RatioNetwork(8)
        >>> ratio = network(torch.randn(3, 8))
        >>> ratio.shape, bool(((ratio > 0) & (ratio < 1)).all()), ratio.requires_grad
        (torch.Size([3]), True, False)
    """

    def __init__(self, features: int) -> None:
        check_integer("features", features, 1)
        first, second = HIDDEN
        super().__init__(
            nn.Linear(features, first),
            nn.LeakyReLU(0.01),
            nn.Linear(first, second),
            nn.LeakyReLU(0.01),
            nn.Linear(second, 1),
        )
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Predict the ratio of each row, (n, F) -> (n,), in the precision of the weights."""
        weight = self[0].weight
        assert isinstance(weight, Tensor)
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(weight.dtype)).squeeze(-1).sigmoid()
