"""Likelihood and calibration at many temperatures at once, for temperature scaling."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from kdlight.losses.log_space import shifted, widen
from kdlight.metrics.bins import Closed, bin_count, bin_indices, check_bins
from kdlight.metrics.precision import PreciseMetric


class TemperatureCurve(PreciseMetric):
    r"""Likelihood and calibration of logits divided by each of many temperatures.

    .. math:: \mathrm{NLL}(T) = \operatorname{mean}(\log \textstyle\sum_v e^{z_v / T} - z_y / T)

    Dividing logits by a temperature changes confidences, but not predictions (Guo, Pleiss, Sun,
    Weinberger, "On Calibration of Modern Neural Networks", 2017, section 4.2). All temperatures are
    evaluated in one pass over the data, in constant memory.

    Args:
        temperatures: at least one temperature, each above 0 and finite.
        bins: number of bins of the expected calibration error, at least 1.
        closed: the edge that a bin includes, see `kdlight.metrics.CalibrationError`.

    Raises:
        ValueError: there are no temperatures, or one is not above 0 and finite; bins is below 1, or
            closed is neither ``"right"`` nor ``"left"``.

    Example:
        >>> metric = TemperatureCurve([1.0, 2.0])
        >>> metric.update(torch.tensor([[0.0, 4.0], [0.0, 4.0]]), torch.tensor([0, 1]))
        >>> metric.compute()["ece"]
        tensor([0.4820, 0.3808])
    """

    full_state_update = False
    is_differentiable = False
    nll: Tensor
    cells: Tensor
    temperatures: Tensor

    def __init__(
        self, temperatures: Sequence[float], bins: int = 15, *, closed: Closed = "right"
    ) -> None:
        super().__init__()
        if not (len(temperatures) and all(0 < each < inf for each in temperatures)):
            raise ValueError(
                f"temperatures must be one or more finite numbers above 0, got {temperatures}"
            )
        check_bins(bins, closed)
        self.bins = bins
        self.closed: Closed = closed
        values = torch.tensor(temperatures, dtype=torch.float64)
        self.register_buffer("temperatures", values, persistent=False)
        self.add_state("nll", torch.zeros_like(values), dist_reduce_fx="sum")
        cells = torch.zeros(3, len(values), bin_count(bins, closed), dtype=torch.float64)
        self.add_state("cells", cells, dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add valid positions, by their logits ``(n, V)`` and labels ``(n,)``."""
        logits = shifted(widen(logits))
        top, prediction = logits.max(-1)
        label_logits = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        correct = (prediction == labels).double()
        for i, temperature in enumerate(self.temperatures.tolist()):
            partition = (logits / temperature).logsumexp(-1)  # all that needs the whole row
            self.nll[i] += (partition - label_logits / temperature).sum(dtype=torch.float64)
            confidence = (top / temperature - partition).exp()
            index = bin_indices(confidence, self.bins, self.closed)
            values = torch.stack([torch.ones_like(correct), confidence.double(), correct])
            self.cells[:, i].index_add_(1, index, values)

    def compute(self) -> dict[str, Tensor]:
        """Return ``nll`` and ``ece`` at each temperature."""
        count, confidence, correct = self.cells
        total = count.sum(-1).clamp(min=1)
        return {
            "nll": (self.nll / total).float(),
            "ece": ((correct - confidence).abs().sum(-1) / total).float(),
        }
