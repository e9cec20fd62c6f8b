"""Calibration over bins of equal mass, without keeping what was seen."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

CELLS = 2**14
"""Cells of the histogram that stands in for the sorted confidences."""

REACH = 17.0
"""The histogram covers odds of e to the power of -17 to 17, more than a float32 below 1 has."""


class AdaptiveCalibrationError(Metric):
    r"""Gap of accuracy and confidence over bins that hold as many predictions each.

    .. math:: \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|,
              \qquad n_b \in \{\lfloor n / B \rfloor, \lceil n / B \rceil\}

    Choose it where most predictions are nearly sure, and equal widths put them all into one bin.

    The bins are known when all is seen, so predictions are counted in 16,384 narrow cells of
    log-odds, and the cells are shared out. What falls into one cell with the border of two bins
    (confidences of log-odds within 0.002 of each other) is shared out by number; the rest is exact.

    Nguyen, O'Connor, "Posterior calibration and exploratory analysis for natural language
    processing models", 2015; Nixon et al., "Measuring Calibration in Deep Learning", 2019 (per
    class there; here of the predicted class).

    Args:
        bins: number of bins, at least 1.

    Raises:
        ValueError: bins is below 1.

    Example:
        >>> metric = AdaptiveCalibrationError(bins=2)
        >>> metric.update(torch.tensor([0.5, 0.6, 0.9, 1.0]), torch.tensor([1, 0, 1, 1]))
        >>> round(metric.compute().item(), 4)  # (|0.5 - 0.55| + |1 - 0.95|) / 2
        0.05
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    cells: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        self.bins = bins
        cells = torch.zeros(3, CELLS, dtype=torch.float64)
        self.add_state("cells", cells, dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions: the probability of the predicted class, and whether it was right.

        Args:
            confidence: probabilities ``(n,)``.
            correct: booleans ``(n,)``.
        """
        place = (confidence.double().logit() + REACH) * (CELLS / (2 * REACH))
        index = place.nan_to_num(nan=0.0).clamp(0, CELLS - 1).long()
        values = torch.stack([torch.ones_like(confidence), confidence, correct.to(confidence)])
        self.cells.index_add_(1, index, values.to(self.cells.dtype))

    def compute(self) -> Tensor:
        """The error, in [0, 1]; 0 where nothing was seen."""
        count = self.cells[0].sum()
        # as numpy.array_split: where n is no multiple of the bins, the first ones hold one more
        bins = torch.arange(self.bins + 1, dtype=count.dtype, device=count.device)
        small = (count / self.bins).floor()
        borders = bins * small + torch.minimum(bins, count - small * self.bins)
        passed = self.cells.cumsum(-1)
        cell = torch.searchsorted(passed[0].contiguous(), borders).clamp(max=CELLS - 1)
        inside = self.cells[:, cell]
        rest = (passed[0, cell] - borders) / inside[0].clamp(min=1)  # of the cell, above the border
        confidence, correct = (passed[1:, cell] - rest * inside[1:]).diff(dim=-1)
        return ((correct - confidence).abs().sum() / count.clamp(min=1)).float()
