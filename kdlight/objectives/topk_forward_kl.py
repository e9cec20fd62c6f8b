"""Top-k forward KL: what a teacher finds likely, made as sure as it should be."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.log_space import log_probs, probs
from kdlight.losses.topk import Tail, check_tail
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import TokenObjective
from kdlight.reduce import Loss, token_sum
from kdlight.sources import TopK

Recalibrate = Literal["logits", "probs"]


class TopKForwardKL(TokenObjective):
    """KL to the k likeliest tokens of the teacher, `kdlight.losses.topk_forward_kl`.

    Shum et al., "FIRST: Teach A Reliable Large Language Model Through Efficient Trustworthy
    Distillation", 2024: distill only the teacher's top tokens, after its confidence was put right.
    Their loss is ``tail="renormalise"``. Choose it for a teacher that is surer than it is
    right, with a ``temperature`` that makes it honest on validation data.

    The teacher may be live, or cached with any k. For one that is cached with the k wanted here,
    `ForwardKL` computes the same without this class.

    Args:
        k: how many tokens of the teacher are looked at, at least 1.
        tail: ``"bucket"`` keeps the others as one outcome; ``"renormalise"`` compares among the k
            alone, and does not see what the student does elsewhere.
        temperature: of the teacher alone, above 0; above 1 it is less sure.
        recalibrate: ``"logits"`` divides log-probabilities by the temperature; ``"probs"`` takes
            the softmax of probabilities over it, and of the student's probabilities, as the
            authors' code can (with ``"renormalise"`` only).

    Raises:
        ValueError: a number out of its range, or a choice that is none.

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
    ) -> None:
        super().__init__()
        check_tail(tail)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
        if recalibrate not in ("logits", "probs"):
            raise ValueError(f"recalibrate must be 'logits' or 'probs', got {recalibrate!r}")
        if recalibrate == "probs" and tail != "renormalise":
            raise ValueError(
                "recalibrate='probs' knows only the k tokens: set tail='renormalise', or"
                " recalibrate='logits'"
            )
        self.k = int(k)
        self.tail: Tail = tail
        self.temperature = float(temperature)
        self.recalibrate: Recalibrate = recalibrate

    def per_token_loss(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """``(n, V), (n, V) -> (n,)``."""
        if self.recalibrate == "probs":
            top = probs(teacher).topk(min(self.k, teacher.shape[-1]), -1)
            kept = probs(student).gather(-1, top.indices)
            return losses.forward_kl(kept, top.values / self.temperature)
        top = log_probs(teacher, self.temperature).topk(min(self.k, teacher.shape[-1]), -1)
        return losses.topk_forward_kl(student, top.indices, top.values, tail=self.tail)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum `per_token_loss`; of a cached teacher, take the top k of what was kept."""
        if not isinstance(inputs.teacher, TopK):
            return super().forward(inputs)
        self.check(inputs)
        teacher = self._kept(inputs.teacher)
        # not `per_token_loss`: beside a student that loves it, a token of the tail may look likely, too
        return token_sum(
            self._to_kept, inputs.student, teacher, mask=inputs.mask, chunked=inputs.chunked
        )

    def _kept(self, teacher: TopK) -> TopK:
        top = teacher.top(self.k, tail=self.tail)
        if self.recalibrate == "logits":
            return replace(top, temperature=top.temperature * self.temperature)
        if top.temperature != 1:
            raise ValueError(
                "recalibrate='probs' has a temperature of its own, but the teacher has one too:"
                f" {top.temperature}; set one of them to 1"
            )
        return replace(top, log_probs=top.log_probs.exp() / self.temperature)

    def _to_kept(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        if self.tail == "renormalise":
            student = probs(student) if self.recalibrate == "probs" else student
            student = student.masked_fill(teacher == -torch.inf, -torch.inf)
        return losses.forward_kl(student, teacher)
