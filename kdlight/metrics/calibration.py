"""Calibration: does a confidence of 80 % come true 80 % of the time?"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torchmetrics import Metric

from kdlight.losses.labels import IGNORE_INDEX, check_labels
from kdlight.losses.log_space import probs

Curve: TypeAlias = "dict[str, list[float]]"


def predictions(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence of each prediction, and whether it is right, (..., V), (...) -> (n,), (n,).

    Positions with a label of -100 are left out.

    Example:
        >>> confidence, correct = predictions(torch.zeros(3, 4), torch.tensor([0, 1, -100]))
        >>> confidence.tolist(), correct.tolist()
        ([0.25, 0.25], [True, False])
    """
    check_labels(logits, labels)
    kept = labels != IGNORE_INDEX
    confidence, prediction = probs(logits[kept]).max(-1)
    return confidence, prediction == labels[kept]


class CalibrationError(Metric):
    r"""Gap of accuracy and confidence over equal-width bins of confidence, in constant memory.

    .. math:: \mathrm{l1} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    ``"l2"`` is the root of the mean square of the gap instead, ``"max"`` the widest gap of a bin.
    Equal to torchmetrics' ``MulticlassCalibrationError``, which keeps every confidence it has seen;
    this one keeps three numbers a bin, so a language model's millions of tokens fit. Like there, a
    bin begins with its lower edge, and a confidence of exactly 1 has a bin of its own.

    Args:
        bins: number of bins, at least 1.
        norm: ``"l1"``, ``"l2"`` or ``"max"``.

    Raises:
        ValueError: bins is below 1, or norm none of these.

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

    def __init__(self, bins: int = 15, norm: Literal["l1", "l2", "max"] = "l1") -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        if norm not in ("l1", "l2", "max"):
            raise ValueError(f"norm must be 'l1', 'l2' or 'max', got {norm!r}")
        self.bins, self.norm = bins, norm
        for name in ("count", "confidence", "correct"):
            self.add_state(name, torch.zeros(bins + 1, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Add predictions: the probability of the predicted class, and whether it was right.

        Args:
            confidence: probabilities ``(n,)``.
            correct: booleans ``(n,)``.
        """
        edges = torch.linspace(0, 1, self.bins + 1, device=confidence.device)
        index = (torch.bucketize(confidence.float(), edges, right=True) - 1).clamp(0, self.bins)
        for state, values in (
            (self.count, torch.ones_like(confidence)),
            (self.confidence, confidence),
            (self.correct, correct),
        ):
            state.index_add_(0, index, values.to(state.dtype))

    def compute(self) -> Tensor:
        """The error, in [0, 1]; 0 where nothing was seen."""
        share = self.count / self.count.sum().clamp(min=1)
        gap = (self.correct - self.confidence).abs() / self.count.clamp(min=1)
        if self.norm == "max":
            return gap.max().float()
        return ((share * gap).sum() if self.norm == "l1" else (share * gap**2).sum().sqrt()).float()

    def curve(self) -> Curve:
        """What a reliability diagram shows: one entry for each bin that is not empty.

        Returns:
            ``confidence`` and ``accuracy`` of the bins, means over their predictions, and the
            ``share`` of all predictions in them; over all ranks.
        """
        with self.sync_context():
            seen = self.count > 0
            count, confidence, correct = (
                state[seen] for state in (self.count, self.confidence, self.correct)
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

    Raises:
        ValueError: bins is below 1.

    Example:
        >>> metric = ExpectedCalibrationError(bins=10)
        >>> metric.update(torch.tensor([0.95, 0.95]), torch.tensor([True, False]))
        >>> round(metric.compute().item(), 4)
        0.45
    """

    def __init__(self, bins: int = 15) -> None:
        super().__init__(bins, "l1")


class MaximumCalibrationError(CalibrationError):
    """The widest gap, `CalibrationError` with ``norm="max"``.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017, eq. (5). A bin
    of a few predictions decides as much as a full one, so it is noisy.

    Args:
        bins: number of bins, at least 1.

    Raises:
        ValueError: bins is below 1.

    Example:
        >>> metric = MaximumCalibrationError()
        >>> metric.update(*predictions(torch.zeros(2, 4), torch.tensor([0, 1])))
        >>> metric.compute()
        tensor(0.2500)
    """

    def __init__(self, bins: int = 15) -> None:
        super().__init__(bins, "max")
