"""Calibration: does a confidence of 80 % come true 80 % of the time?"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ExpectedCalibrationError(Metric):
    r"""Expected calibration error over equal-width bins of confidence, in constant memory.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    Guo et al., "On Calibration of Modern Neural Networks", 2017, eq. (3). Equal to torchmetrics'
    `MulticlassCalibrationError(norm="l1")`, which keeps every confidence it has seen; this one
    keeps three numbers a bin, so a language model's millions of tokens fit.

    Args:
        bins: number of bins, at least 1.

    Raises:
        ValueError: bins is below 1.

    Example:
        >>> metric = ExpectedCalibrationError(bins=10)
        >>> metric.update(torch.tensor([0.95, 0.95]), torch.tensor([True, False]))
        >>> round(metric.compute().item(), 4)
        0.45
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    count: Tensor
    confidence: Tensor
    correct: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        self.bins = bins
        for name in ("count", "confidence", "correct"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions: the probability of the predicted class, and whether it was right.

        Args:
            confidence: probabilities ``(n,)``.
            correct: booleans ``(n,)``.
        """
        edges = torch.linspace(0, 1, self.bins + 1, device=confidence.device)
        index = (torch.bucketize(confidence.float(), edges, right=True) - 1).clamp(0, self.bins - 1)
        for state, values in (
            (self.count, torch.ones_like(confidence)),
            (self.confidence, confidence),
            (self.correct, correct),
        ):
            state.index_add_(0, index, values.to(state.dtype))

    def compute(self) -> Tensor:
        """The error, in [0, 1]; 0 where nothing was seen."""
        gap = (self.correct - self.confidence).abs().sum()
        return (gap / self.count.sum().clamp(min=1)).float()
