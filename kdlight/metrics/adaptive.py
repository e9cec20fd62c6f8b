"""Calibration error over bins of equal mass, with a state of constant size."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.checks import check_at_least
from kdlight.metrics.precision import PreciseMetric

CELLS = 2**14
"""Cells of the histogram that replaces the sorted confidences."""

LOG_ODDS = 17.0
"""The histogram covers log-odds of -17 to 17, which includes every float32 below 1."""


class AdaptiveCalibrationError(PreciseMetric):
    r"""Gap between accuracy and confidence over bins with equal numbers of predictions.

    .. math:: \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|,
              \qquad n_b \in \{\lfloor n / B \rfloor, \lceil n / B \rceil\}

    Choose it if most predictions are very confident, so that bins of equal width would hold almost
    all of them in one bin.

    The bins are known only at the end, so predictions are counted in 16,384 narrow cells of
    log-odds, and the cells are assigned to bins. Predictions in a cell that contains the border of
    two bins (their log-odds are within 0.002 of each other) are divided in proportion; the rest is
    exact.

    Nguyen, O'Connor, "Posterior calibration and exploratory analysis for natural language
    processing models", 2015; Nixon et al., "Measuring Calibration in Deep Learning", 2019 (per
    class there; of the predicted class here).

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
        check_at_least("bins", bins, 1)
        self.bins = bins
        cells = torch.zeros(3, CELLS, dtype=torch.float64)
        self.add_state("cells", cells, dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions, ``(n,), (n,)``.

        Args:
            confidence: probability of each predicted class.
            correct: booleans, True where the predicted class is the label.
        """
        cell = (confidence.double().logit() + LOG_ODDS) * (CELLS / (2 * LOG_ODDS))
        index = cell.nan_to_num(nan=0.0).clamp(0, CELLS - 1).long()
        values = torch.stack([torch.ones_like(confidence), confidence, correct.to(confidence)])
        self.cells.index_add_(1, index, values.to(self.cells.dtype))

    def compute(self) -> Tensor:
        """Return the error, in [0, 1]; 0 without predictions."""
        count = self.cells[0].sum()
        # like numpy.array_split: if n is not a multiple of the bins, the first bins hold one more
        bins = torch.arange(self.bins + 1, dtype=count.dtype, device=count.device)
        size = (count / self.bins).floor()
        borders = bins * size + torch.minimum(bins, count - size * self.bins)
        cumulative = self.cells.cumsum(-1)
        cell = torch.searchsorted(cumulative[0].contiguous(), borders).clamp(max=CELLS - 1)
        in_cell = self.cells[:, cell]
        above = (cumulative[0, cell] - borders) / in_cell[0].clamp(min=1)  # share above the border
        confidence, correct = (cumulative[1:, cell] - above * in_cell[1:]).diff(dim=-1)
        return ((correct - confidence).abs().sum() / count.clamp(min=1)).float()
