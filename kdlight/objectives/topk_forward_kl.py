"""Top-k forward KL: the most likely tokens of a teacher, with calibrated confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from kdlight import losses
from kdlight.checks import check_at_least, check_choice, check_positive
from kdlight.losses import value_and_grad_topk
from kdlight.losses.log_space import log_probs, probs, tempered
from kdlight.losses.topk import Tail, check_tail, renormalised_kl
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import TokenObjective
from kdlight.reduce import Loss, token_sum
from kdlight.sources import TopK

Recalibrate = Literal["logits", "probs"]


class TopKForwardKL(TokenObjective):
    """KL to the teacher's k most likely tokens, `kdlight.losses.topk_forward_kl`.

    Shum et al., "FIRST: Teach A Reliable Large Language Model Through Efficient Trustworthy
    Distillation", 2024: distill only the teacher's top tokens, after recalibrating its confidence.
    Their loss is ``tail="renormalise"``. Choose it for an overconfident teacher, with a
    ``temperature`` that calibrates it on validation data; or with the callback
    `kdlight.callbacks.CalibrateTeacherFirst`, which finds one before the fit.

    The teacher may be live, or cached with any k. For a teacher cached with this k, `ForwardKL`
    computes the same loss.

    Args:
        k: number of the teacher's tokens to keep, at least 1.
        tail: ``"bucket"`` compares the other tokens as one outcome; ``"renormalise"`` compares the
            k tokens alone, whatever the student predicts elsewhere.
        temperature: of the teacher alone, above 0; above 1 makes it less confident.
        student_temperature: of the student, above 0. At 1 the student learns to be as confident as
            the teacher at ``temperature``; at ``temperature``, as the teacher at 1. There is no
            factor T^2.
        recalibrate: ``"logits"`` divides log-probabilities by the temperature; ``"probs"`` takes
            the softmax of probabilities divided by it, and of the student's probabilities, an
            option of the authors' code (only with ``"renormalise"``).

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> logits = torch.randn(4, 7)
        >>> abs(round(TopKForwardKL(k=3)(LossInputs(logits, logits)).mean().item(), 6))
        0.0
    """

    def __init__(
        self,
        *,
        k: int = 5,
        tail: Tail = "bucket",
        temperature: float = 1.0,
        recalibrate: Recalibrate = "logits",
        student_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_tail(tail)
        check_at_least("k", k, 1)
        check_positive("temperature", temperature)
        check_positive("student_temperature", student_temperature)
        check_choice("recalibrate", recalibrate, ("logits", "probs"))
        if recalibrate == "probs" and tail != "renormalise":
            raise ValueError(
                "recalibrate='probs' needs tail='renormalise', as it compares only the k tokens; or"
                " use recalibrate='logits'"
            )
        self.k = int(k)
        self.tail: Tail = tail
        self.temperature = float(temperature)
        self.recalibrate: Recalibrate = recalibrate
        self.student_temperature = float(student_temperature)

    def per_token_loss(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the loss of each row, ``(n, V), (n, V) -> (n,)``."""
        check_at_least("k", self.k, 1)  # a callback may have changed it
        if self.recalibrate == "probs":
            top = probs(teacher).topk(min(self.k, teacher.shape[-1]), -1)
            kept = probs(student, self.student_temperature).gather(-1, top.indices)
            return losses.forward_kl(kept, top.values / self.temperature)
        top = log_probs(teacher, self.temperature).topk(min(self.k, teacher.shape[-1]), -1)
        student = tempered(student, self.student_temperature)
        return losses.topk_forward_kl(student, top.indices, top.values, tail=self.tail)

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the loss and its gradient, or return None where no other token counts."""
        check_at_least("k", self.k, 1)  # a callback may have changed it
        if self.tail != "bucket" or self.k >= teacher.shape[-1]:
            return None
        top = log_probs(teacher, self.temperature).topk(self.k, -1)
        student = tempered(student, self.student_temperature)
        values, grad = value_and_grad_topk.topk_forward_kl(student, top.indices, top.values)
        return values, grad.div_(self.student_temperature)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum `per_token_loss`; of a cached teacher, use the top k of the tokens it has."""
        if not isinstance(inputs.teacher, TopK):
            return super().forward(inputs)
        self.check(inputs)
        teacher = self._recalibrated(inputs.teacher)
        # not `per_token_loss`: the logits of a cached teacher depend on the student in the tail, so
        # that a token of the tail may be among the top k
        return token_sum(
            self._cached_loss,
            inputs.student,
            teacher,
            mask=inputs.mask,
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )

    def _recalibrated(self, teacher: TopK) -> TopK:
        top = teacher.top(self.k, tail=self.tail)
        if self.recalibrate == "logits":
            temperature = top.temperature * self.temperature
            return replace(
                top, temperature=temperature, student_temperature=self.student_temperature
            )
        if top.temperature != 1:
            raise ValueError(
                "recalibrate='probs' needs a cached teacher with a temperature of 1, got"
                f" {top.temperature}; set the temperature of one of them to 1"
            )
        return replace(top, log_probs=top.log_probs.exp() / self.temperature)

    def _cached_loss(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        by_probs = self.recalibrate == "probs"
        student = (probs if by_probs else log_probs)(student, self.student_temperature)
        if self.tail == "renormalise":
            return renormalised_kl(teacher, student.masked_fill(teacher == -torch.inf, -torch.inf))
        return losses.forward_kl(student, teacher)
