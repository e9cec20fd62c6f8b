"""BD-KD: both directions of KL, weighted by which network is more confident."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from kdlight import losses
from kdlight.checks import check_choice, check_positive
from kdlight.losses import value_and_grad_both_kls
from kdlight.losses.balanced import balance, check_balance, confidence_gap
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import Divergence
from kdlight.reduce import Loss, position_values, token_sum


class BDKD(Divergence):
    """Forward and reverse KL, weighted by the gap in confidence, `kdlight.losses.balanced_kl`.

    Amara, Zaeem, Chen, Gross, Clark, "BD-KD: Balancing the Divergences for Online Knowledge
    Distillation", 2022. Choose it for a calibrated student: where the student is more
    confident than its teacher, forward KL flattens it; where it is less confident, reverse KL
    sharpens it. Combine it with a `CrossEntropy` in a `Weighted`. In the online form the teacher is
    trained too, with an objective of its own: `kdlight.OnlineDistillationModule`.

    Published are both directions of KL and weights per sample from the difference of the entropies.
    The hard rule is that of a third party's code. All defaults and other options are choices made
    here, see the docstring of the loss.

    Args:
        high: weight of the term that closes the gap in confidence, not negative.
        low: weight of the other term, not negative; above ``high`` it reverses the rule.
        temperature: divides both logits, above 0.
        weighting: ``"hard"``, or ``"soft"`` for weights that change smoothly with the gap.
        kappa: slope of the soft weights, not negative.
        normalise: divide the weights by their sum, so that they do not scale the gradient.
        detach_weights: False gives soft weights a gradient, for research.
        entropy_temperature: temperature at which confidences are compared; None for
            ``temperature``.
        confidence: ``"entropy"``, or ``"max_prob"`` for the highest probability.
        tie_tol: a gap up to this is a tie for the hard rule.
        granularity: what has one pair of weights: ``"token"``, each position; ``"sample"``, the
            same under another name, where a position is an image; ``"sequence"``, all valid
            positions of a row of ``(B, T)``, by their mean gap (a packed row counts as one
            sequence). The last costs one more pass without gradients and one with them, and its
            weights take no gradient.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range; ``granularity="sequence"`` with
            ``detach_weights=False``.

    Example:
        >>> logits = torch.randn(4, 7)
        >>> BDKD(high=3.0)(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self,
        *,
        high: float = 2.0,
        low: float = 1.0,
        temperature: float = 1.0,
        weighting: Literal["hard", "soft"] = "hard",
        kappa: float = 4.0,
        normalise: bool = False,
        detach_weights: bool = True,
        entropy_temperature: float | None = None,
        confidence: Literal["entropy", "max_prob"] = "entropy",
        tie_tol: float = 0.0,
        granularity: Literal["token", "sample", "sequence"] = "token",
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        check_balance(
            high=high,
            low=low,
            weighting=weighting,
            kappa=kappa,
            confidence=confidence,
            tie_tol=tie_tol,
        )
        if entropy_temperature is not None:
            check_positive("entropy_temperature", entropy_temperature)
        check_choice("granularity", granularity, ("token", "sample", "sequence"))
        if granularity == "sequence" and not detach_weights:
            raise ValueError(
                "detach_weights=False does not work with granularity='sequence', whose weights take"
                " no gradient; use granularity='token'"
            )
        self.high, self.low, self.kappa = float(high), float(low), float(kappa)
        self.tie_tol = float(tie_tol)
        self.weighting: Literal["hard", "soft"] = weighting
        self.confidence: Literal["entropy", "max_prob"] = confidence
        self.entropy_temperature = entropy_temperature
        self.normalise, self.detach_weights = bool(normalise), bool(detach_weights)
        self.granularity = granularity
        self.is_per_token = granularity != "sequence"

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V) -> (n,)``."""
        if self.granularity == "sequence":
            raise ValueError(
                "granularity='sequence' needs all positions of a sequence, but rows are evaluated"
                " independently here; use granularity='token', or call the BDKD objective itself"
            )
        return losses.balanced_kl(
            student,
            teacher,
            temperature=self.temperature,
            detach_weights=self.detach_weights,
            entropy_temperature=self.entropy_temperature,
            confidence=self.confidence,
            **self._rule(),
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the divergence and its gradient where the weights are constants."""
        soft = self.weighting == "soft" and not self.detach_weights
        if soft or self.granularity == "sequence" or self.entropy_temperature is not None:
            return None
        rule = partial(balance, **self._rule())
        return value_and_grad_both_kls.balanced_kl(student, teacher, rule, self.confidence)

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum the loss over the valid positions."""
        if self.granularity != "sequence":
            return super().forward(inputs)
        self.check(inputs)
        assert inputs.teacher is not None
        forward, reverse = (
            token_sum(
                per_token_loss,
                inputs.student,
                inputs.teacher,
                mask=inputs.mask,
                weights=weights,
                chunked=inputs.chunked,
                row_group=inputs.row_group,
            )
            for per_token_loss, weights in zip(
                (self._forward_kl, self._reverse_kl), self._sequence_weights(inputs), strict=True
            )
        )
        return Loss(forward.total + reverse.total, forward.count)

    @torch.no_grad()
    def _sequence_weights(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Compute the weights of both KLs, ``(..., T), (..., T)``, constant over a sequence."""
        assert inputs.teacher is not None
        gaps = position_values(
            self._gaps,
            inputs.student,
            inputs.teacher,
            mask=inputs.mask,
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )
        if gaps.dim():
            mask = torch.ones_like(gaps) if inputs.mask is None else inputs.mask
            sizes = mask.sum(-1, keepdim=True).clamp(min=1)
            gaps = (gaps.sum(-1, keepdim=True) / sizes.to(gaps)).expand_as(gaps)
        return balance(gaps, **self._rule())

    def _rule(self) -> dict[str, Any]:
        names = ("high", "low", "weighting", "kappa", "tie_tol")
        rule = {name: getattr(self, name) for name in names}
        check_balance(**rule, confidence=self.confidence)  # a callback may have changed them
        return {**rule, "normalise": self.normalise}

    def _gaps(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        temperature = self.entropy_temperature
        if temperature is None:
            temperature = self.temperature
        return confidence_gap(student, teacher, temperature=temperature, confidence=self.confidence)

    def _forward_kl(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return self._scale() * losses.forward_kl(student, teacher, temperature=self.temperature)

    def _reverse_kl(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return self._scale() * losses.reverse_kl(student, teacher, temperature=self.temperature)

    def _scale(self) -> float:
        return self.temperature**2 if self.temperature_squared else 1.0
