"""Metrics of a student relative to its teacher and to the data, over valid positions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from kdlight import losses
from kdlight.checks import check_positive
from kdlight.losses.log_space import log_probs
from kdlight.metrics.adaptive import AdaptiveCalibrationError
from kdlight.metrics.calibration import Curve, ExpectedCalibrationError, MaximumCalibrationError
from kdlight.metrics.precision import Mean
from kdlight.metrics.scores import brier
from kdlight.metrics.teachers import TeacherMetrics
from kdlight.objectives import Loss, LossInputs

ROWS = 256
"""Positions evaluated at once, which bounds the memory of their logits."""

SHARED = ("loss", "forward_kl", "reverse_kl", "top1_agreement", "mse_to_teacher")
PER_NETWORK = ("perplexity", "nll", "accuracy", "brier", "mse", "mae")
PREFIXES = ("", "teacher_")
CALIBRATION_ERRORS = {
    "ece": ExpectedCalibrationError,
    "mce": MaximumCalibrationError,
    "ace": AdaptiveCalibrationError,
}


class DistillationMetrics(nn.Module):
    """Divergences, agreement, perplexity and calibration, each a mean over positions.

    All positions have equal weight, independent of their batch and rank. States have a constant
    size and are reduced over ranks by torchmetrics.

    ====================  ================================================================
    ``loss``              the objective's own value
    ``forward_kl``        KL from the teacher to the student
    ``reverse_kl``        KL from the student to the teacher
    ``top1_agreement``    share of positions where both predict the same entry
    ``nll``               mean negative log-likelihood of the labels
    ``perplexity``        exponential of ``nll``
    ``accuracy``          share of positions where the student predicts the label
    ``brier``             squared distance of the student's probabilities from the label
    ``ece``               the student's expected calibration error, over 15 bins
    ``mce``, ``ace``      its maximum and its adaptive calibration error
    ``teacher_...``       all from ``nll`` on, of the teacher
    ====================  ================================================================

    Of the teachers of a `kdlight.TeacherEnsemble`, all of this is of their average, or of the one
    that a row was routed to; each has `TeacherMetrics` beside it. Weights by confidence read the
    labels: the divergences and ``top1_agreement`` then compare the student with an average that
    knows the answer. ``teacher_...`` would be flattering, and is of the average with equal weights.

    Labels that are floating-point numbers, of the shape of the outputs, are those of a regression.
    All of the above apply to classes, except for ``loss``; a regression, or a network with a single
    output, has these instead, each a mean over positions and outputs:

    ====================  ================================================================
    ``mse``, ``mae``      squared and absolute error of the student
    ``teacher_mse``       squared error of the teacher
    ``teacher_mae``       absolute error of the teacher
    ``mse_to_teacher``    squared difference of student and teacher
    ====================  ================================================================

    Args:
        temperature: temperature of the two divergences, above 0.

    Raises:
        ValueError: temperature is not above 0 and finite.

    Example:
        >>> metrics = DistillationMetrics()
        >>> logits = torch.randn(6, 5)
        >>> metrics.update(LossInputs(logits, logits, labels=torch.zeros(6, dtype=torch.long)))
        >>> metrics.compute()["forward_kl"].item()
        0.0
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = float(temperature)
        names = [*SHARED, *(prefix + name for prefix in PREFIXES for name in PER_NETWORK)]
        means = {name: Mean() for name in names}
        errors = {
            prefix + name: kind()
            for prefix in PREFIXES
            for name, kind in CALIBRATION_ERRORS.items()
        }
        self.metrics = nn.ModuleDict({**means, **errors})
        self.by_teacher = TeacherMetrics()

    def update(self, inputs: LossInputs, loss: Loss | None = None) -> None:
        """Add the valid positions of ``inputs``, and the objective's loss on them if given."""
        if loss is not None and loss.count > 0:
            # once per unit: a mean that keeps NaN ignores weights
            self._update("loss", loss.mean().detach().expand(int(loss.count)))
        for rows in inputs.valid_positions().split(ROWS):
            self._update_rows(inputs, rows)

    @torch.no_grad()
    def _update_rows(self, inputs: LossInputs, rows: Tensor) -> None:
        student = inputs.student.select(rows).logits()
        # a teacher with positions of its own (another tokenizer) has no logits for these rows
        whole = inputs.teacher if inputs.teacher_mask is None else None
        source = None if whole is None else whole.select(rows)
        if student.shape[-1] == 1 or inputs.labels is not inputs.class_labels:
            teacher = None if source is None else source.given_student(student)
            self._compare_outputs(student, teacher, inputs.labels, rows)
            return
        teacher = None
        if source is not None:
            self.by_teacher.process_group = cast(Metric, self.metrics["loss"]).process_group
            teacher = self.by_teacher.compare(source, student, temperature=self.temperature)
        labels = None if inputs.labels is None else inputs.labels.flatten()[rows]
        if teacher is not None and teacher.shape[-1] == student.shape[-1]:
            for name, divergence in (
                ("forward_kl", losses.forward_kl),
                ("reverse_kl", losses.reverse_kl),
            ):
                self._update(name, divergence(student, teacher, temperature=self.temperature))
            agreement = student.argmax(-1) == teacher.argmax(-1)
            self._update("top1_agreement", agreement.double())
        if labels is not None:
            self._compare_with_labels("", student, labels)
            if teacher is not None and source is not None:
                plain = source.without_labels()
                known = teacher if plain is source else plain.given_student(student)
                self._compare_with_labels("teacher_", known, labels)

    def _compare_outputs(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor | None, rows: Tensor
    ) -> None:
        """Compare the outputs of a regression with each other, and with labels ``(..., V)``."""
        width = student.shape[-1]
        if teacher is not None and teacher.shape == student.shape:
            self._update("mse_to_teacher", (student.double() - teacher.double()).square())
        if labels is None or not labels.is_floating_point():
            return
        if labels.numel() % width or len(flat := labels.reshape(-1, width)) <= int(rows.max()):
            raise ValueError(
                f"labels of a regression must have the shape of the outputs, (..., {width}), got"
                f" {tuple(labels.shape)}"
            )
        for prefix, outputs in (("", student), ("teacher_", teacher)):
            if outputs is not None and outputs.shape == student.shape:
                gap = outputs.double() - flat[rows].double()
                self._update(f"{prefix}mse", gap.square())
                self._update(f"{prefix}mae", gap.abs())

    def _compare_with_labels(self, prefix: str, logits: Tensor, labels: Tensor) -> None:
        confidence, prediction = log_probs(logits).max(-1)
        correct = prediction == labels
        nll = losses.cross_entropy(logits, labels)
        self._update(f"{prefix}nll", nll)
        self._update(f"{prefix}perplexity", nll)
        self._update(f"{prefix}accuracy", correct.double())
        self._update(f"{prefix}brier", brier(logits, labels))
        for name in CALIBRATION_ERRORS:
            self._update(prefix + name, confidence.exp(), correct)

    def compute(self) -> dict[str, Tensor]:
        """Return all metrics that have data, by name, reduced over ranks."""
        metrics = cast("dict[str, Metric]", self.metrics)
        values = {name: each.compute() for name, each in metrics.items() if each.update_called}
        values |= self.by_teacher.compute()
        return {
            name: (value.exp() if name.endswith("perplexity") else value).float()
            for name, value in values.items()
        }

    def reliability(self) -> dict[str, Curve]:
        """Return the data of reliability diagrams of ``student`` and ``teacher``, if there are any.

        See `kdlight.metrics.CalibrationError.curve`.
        """
        errors = {"student": self.metrics["ece"], "teacher": self.metrics["teacher_ece"]}
        return {
            name: error.curve()
            for name, error in errors.items()
            if isinstance(error, ExpectedCalibrationError) and error.update_called
        }

    def reset(self) -> None:
        """Reset all states."""
        # Lightning may be in inference mode here, and a later fit cannot update inference tensors
        with torch.inference_mode(False):
            for metric in self.metrics.values():
                cast(Metric, metric).reset()
            self.by_teacher.reset()

    def _update(self, name: str, *values: Tensor) -> None:
        cast(Metric, self.metrics[name]).update(*values)
