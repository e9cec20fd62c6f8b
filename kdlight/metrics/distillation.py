"""How close a student is to its teacher and to the data, on the positions that count."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from kdlight import losses
from kdlight.losses.log_space import log_probs
from kdlight.metrics.adaptive import AdaptiveCalibrationError
from kdlight.metrics.calibration import Curve, ExpectedCalibrationError, MaximumCalibrationError
from kdlight.metrics.scores import brier
from kdlight.objectives import Loss, LossInputs

ROWS = 256
"""Positions evaluated at once: their logits are what evaluation holds."""

OF_BOTH = ("loss", "forward_kl", "reverse_kl", "top1_agreement")
OF_EACH = ("perplexity", "nll", "accuracy", "brier")
SIDES = ("", "teacher_")
ERRORS = {
    "ece": ExpectedCalibrationError,
    "mce": MaximumCalibrationError,
    "ace": AdaptiveCalibrationError,
}


class DistillationMetrics(nn.Module):
    """Divergences, agreement, perplexity and calibration, each a mean over positions.

    Every position counts the same, whatever batch or rank it came in. States are of constant size
    and reduced over ranks by torchmetrics.

    ====================  ================================================================
    ``loss``              the objective's own value
    ``forward_kl``        KL from the teacher to the student
    ``reverse_kl``        KL from the student to the teacher
    ``top1_agreement``    share of positions where both prefer the same entry
    ``nll``               mean negative log-likelihood of the labels
    ``perplexity``        its exponential
    ``accuracy``          share of positions where the student prefers the label
    ``brier``             squared distance of the student's probabilities from the label
    ``ece``               the student's expected calibration error, over 15 bins
    ``mce``, ``ace``      its maximum, and its adaptive calibration error
    ``teacher_...``       all from ``nll`` on, of the teacher
    ====================  ================================================================

    Args:
        temperature: of the two divergences.

    Raises:
        ValueError: temperature is not above 0.

    Example:
        >>> metrics = DistillationMetrics()
        >>> logits = torch.randn(6, 5)
        >>> step = LossInputs(logits, logits, labels=torch.zeros(6, dtype=torch.long))
        >>> metrics.update(step)
        >>> metrics.compute()["forward_kl"].item()
        0.0
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = float(temperature)
        # double, and NaN kept: a metric that drops what it cannot add up hides a broken run
        names = [*OF_BOTH, *(side + name for side in SIDES for name in OF_EACH)]
        means = {
            name: MeanMetric(nan_strategy="disable").set_dtype(torch.float64) for name in names
        }
        errors = {side + name: make() for side in SIDES for name, make in ERRORS.items()}
        self.metrics = nn.ModuleDict({**means, **errors})

    def update(self, step: LossInputs, loss: Loss | None = None) -> None:
        """Add the positions of ``step`` that count, and the objective's value on them if given."""
        if loss is not None and loss.count > 0:
            # once for each unit: without a NaN strategy, MeanMetric forgets the weights it is given
            self._update("loss", loss.mean().detach().expand(int(loss.count)))
        for rows in step.valid_positions().split(ROWS):
            self._update_rows(step, rows)

    @torch.no_grad()
    def _update_rows(self, step: LossInputs, rows: Tensor) -> None:
        student = step.student.select(rows).logits()
        # a teacher with positions of its own (another tokenizer) stands beside none of these
        beside = step.teacher if step.teacher_mask is None else None
        teacher = None if beside is None else beside.select(rows).given_student(student)
        labels = None if step.labels is None else step.labels.flatten()[rows]
        if teacher is not None and teacher.shape[-1] == student.shape[-1]:
            at = {"temperature": self.temperature}
            self._update("forward_kl", losses.forward_kl(student, teacher, **at))
            self._update("reverse_kl", losses.reverse_kl(student, teacher, **at))
            same = student.argmax(-1) == teacher.argmax(-1)
            self._update("top1_agreement", same.double())
        if labels is not None:
            self._against_labels("", student, labels)
            if teacher is not None:
                self._against_labels("teacher_", teacher, labels)

    def _against_labels(self, prefix: str, logits: Tensor, labels: Tensor) -> None:
        confidence, prediction = log_probs(logits).max(-1)
        correct = prediction == labels
        surprise = losses.cross_entropy(logits, labels)
        self._update(f"{prefix}nll", surprise)
        self._update(f"{prefix}perplexity", surprise)
        self._update(f"{prefix}accuracy", correct.double())
        self._update(f"{prefix}brier", brier(logits, labels))
        for name in ERRORS:
            self._update(prefix + name, confidence.exp(), correct)

    def compute(self) -> dict[str, Tensor]:
        """All that was seen, by name, reduced over ranks."""
        metrics = cast("dict[str, Metric]", self.metrics)
        seen = {name: metric.compute() for name, metric in metrics.items() if metric.update_called}
        return {
            name: (value.exp() if name.endswith("perplexity") else value).float()
            for name, value in seen.items()
        }

    def reliability(self) -> dict[str, Curve]:
        """What a reliability diagram shows of ``student`` and ``teacher``, as far as they are seen.

        See `kdlight.metrics.CalibrationError.curve`.
        """
        errors = {"student": self.metrics["ece"], "teacher": self.metrics["teacher_ece"]}
        return {
            name: error.curve()
            for name, error in errors.items()
            if isinstance(error, ExpectedCalibrationError) and error.update_called
        }

    def reset(self) -> None:
        """Forget what was seen."""
        # Lightning may be in inference mode here, whose tensors no later fit could update
        with torch.inference_mode(False):
            for metric in self.metrics.values():
                cast(Metric, metric).reset()

    def _update(self, name: str, *values: Tensor) -> None:
        cast(Metric, self.metrics[name]).update(*values)
