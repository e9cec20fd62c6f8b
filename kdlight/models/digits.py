"""Two image classifiers of very different size, for images like scikit-learn's digits."""

from __future__ import annotations

from torch import Tensor, nn


class ConvNet(nn.Sequential):
    """Two convolutions and a linear head, (B, 1, H, W) -> (B, classes).

    With its defaults it has about 22,000 parameters and learns the digits in seconds.

    Args:
        channels: number of channels of the first convolution; the second has twice as many.
        classes: number of classes.
        size: height and width of an image, a multiple of 4.
        dropout: dropout rate before the head.

    Raises:
        ValueError: If ``size`` is not a multiple of 4.

    Example:
        >>> import torch
        >>> ConvNet()(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, *, channels: int = 32, classes: int = 10, size: int = 8, dropout: float = 0.2
    ) -> None:
        if size % 4:
            raise ValueError(f"size must be a multiple of 4, since it is halved twice, got {size}")
        super().__init__(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * (size // 4) ** 2, classes),
        )


class TinyNet(nn.Module):
    """One small hidden layer, (B, 1, H, W) -> (B, classes).

    Args:
        width: number of units of the hidden layer.
        classes: number of classes.
        size: height and width of an image.

    Example:
        >>> sum(p.numel() for p in TinyNet().parameters())
        610
    """

    def __init__(self, *, width: int = 8, classes: int = 10, size: int = 8) -> None:
        super().__init__()
        self.hidden = nn.Linear(size * size, width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of a batch of images."""
        return self.head(self.hidden(images.flatten(1)).relu())
