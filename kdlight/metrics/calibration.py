"""Calibration errors over bins of equal width: are predictions as accurate as confident?"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.checks import check_choice
from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import probs
from kdlight.metrics.bins import Closed, bin_count, bin_indices, check_bins
from kdlight.metrics.precision import PreciseMetric

Curve: TypeAlias = "dict[str, list[float]]"


def predictions(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return confidence and correctness of each prediction, (..., V), (...) -> (n,), (n,).

    Positions with a label of -100 are left out.

    Example:
        >>> confidence, correct = predictions(torch.zeros(3, 4), torch.tensor([0, 1, -100]))
        >>> confidence.tolist(), correct.tolist()
        ([0.25, 0.25], [True, False])
    """
    check_labels(logits, labels)
    valid = labels != IGNORE_INDEX
    confidence, prediction = probs(logits[valid]).max(-1)
    return confidence, prediction == labels[valid]


class CalibrationError(PreciseMetric):
    r"""Gap between accuracy and confidence over bins of equal width, in constant memory.

    .. math:: \mathrm{l1} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    ``"l2"`` is the root of the mean squared gap, ``"max"`` the largest gap of a bin. The m-th of M
    bins is ((m - 1) / M, m / M] (Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural
    Networks", 2017, section 2); the first includes 0. A network that is sure has many confidences
    that round to exactly 1, and they belong to the last bin.

    torchmetrics' ``MulticlassCalibrationError``, which stores every confidence, includes the lower
    edge instead, and gives a confidence of exactly 1 a bin of its own: ``closed="left"``. This
    metric stores three numbers per bin, which is enough for the millions of tokens of a language
    model.

    Args:
        bins: number of bins, at least 1.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.
        closed: the edge that a bin includes, ``"right"``, or ``"left"`` as in torchmetrics.

    Raises:
        ValueError: bins is below 1, or norm or closed is none of these.

    Example:
        >>> metric = CalibrationError(bins=10, norm="max")
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

    def __init__(
        self,
        bins: int = 15,
        norm: Literal["l1", "l2", "max"] = "l1",
        *,
        closed: Closed = "right",
    ) -> None:
        super().__init__()
        check_bins(bins, closed)
        check_choice("norm", norm, ("l1", "l2", "max"))
        self.bins, self.norm = bins, norm
        self.closed: Closed = closed
        for name in ("count", "confidence", "correct"):
            state = torch.zeros(bin_count(bins, closed), dtype=torch.float64)
            self.add_state(name, state, dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions, ``(n,), (n,)``.

        Args:
            confidence: probability of each predicted class.
            correct: booleans, True where the predicted class is the label.
        """
        index = bin_indices(confidence, self.bins, self.closed)
        for state, values in (
            (self.count, torch.ones_like(confidence)),
            (self.confidence, confidence),
            (self.correct, correct),
        ):
            state.index_add_(0, index, values.to(state.dtype))

    def compute(self) -> Tensor:
        """Return the error, in [0, 1]; 0 without predictions."""
        share = self.count / self.count.sum().clamp(min=1)
        gap = (self.correct - self.confidence).abs() / self.count.clamp(min=1)
        if self.norm == "max":
            return gap.max().float()
        return ((share * gap).sum() if self.norm == "l1" else (share * gap**2).sum().sqrt()).float()

    def curve(self) -> Curve:
        """Return the data of a reliability diagram, one entry for each bin that is not empty.

        Returns:
            ``confidence`` and ``accuracy``, means over the predictions of a bin, and ``share``, its
            share of all predictions; reduced over ranks.
        """
        with self.sync_context():
            filled = self.count > 0
            count, confidence, correct = (
                state[filled] for state in (self.count, self.confidence, self.correct)
            )
        return {
            "confidence": (confidence / count).tolist(),
            "accuracy": (correct / count).tolist(),
            "share": (count / count.sum()).tolist(),
        }


class ExpectedCalibrationError(CalibrationError):
    """The mean gap, `CalibrationError` with ``norm="l1"``.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, eq. (3).

    Args:
        bins: number of bins, at least 1.
        closed: the edge that a bin includes, ``"right"``, or ``"left"`` as in torchmetrics.

    Raises:
        ValueError: bins is below 1, or closed is neither.

    Example:
        >>> metric = ExpectedCalibrationError(bins=10)
        >>> metric.update(torch.tensor([0.95, 0.95]), torch.tensor([True, False]))
        >>> round(metric.compute().item(), 4)
        0.45
    """

    def __init__(self, bins: int = 15, *, closed: Closed = "right") -> None:
        super().__init__(bins, "l1", closed=closed)


class MaximumCalibrationError(CalibrationError):
    """The largest gap, `CalibrationError` with ``norm="max"``.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, eq. (5). A bin
    with few predictions counts as much as a full one, so the value is noisy.

    Args:
        bins: number of bins, at least 1.
        closed: the edge that a bin includes, ``"right"``, or ``"left"`` as in torchmetrics.

    Raises:
        ValueError: bins is below 1, or closed is neither.

    Example:
        >>> metric = MaximumCalibrationError()
        >>> metric.update(*predictions(torch.zeros(2, 4), torch.tensor([0, 1])))
        >>> metric.compute()
        tensor(0.2500)
    """

    def __init__(self, bins: int = 15, *, closed: Closed = "right") -> None:
        super().__init__(bins, "max", closed=closed)
