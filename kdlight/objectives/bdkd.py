"""BD-KD: both directions of KL, balanced by which network is the surer."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.balanced import balance, check_balance, confidence_gap
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.token_objective import Divergence
from kdlight.reduce import Loss, token_sum, token_values


class BDKD(Divergence):
    """Forward and reverse KL, weighed by the gap in confidence, `kdlight.losses.balanced_kl`.

    Amara, Zaeem, Chen, Gross, Clark, "BD-KD: Balancing the Divergences for Online Knowledge
    Distillation", 2022. Choose it where the student's confidences are to be trusted: where it is
    surer than its teacher it is flattened, where it is less sure it is sharpened. Beside it belongs
    a `CrossEntropy` (`Weighted` has the weights of both), and in the online form, where the teacher
    learns too, a teacher's objective: `kdlight.OnlineDistillationModule`.

    Published are both directions of KL and weights per sample from the gap of the entropies; the
    hard rule is that of a third party's code; all defaults and other options are choices made here.
    The docstring of the loss says so option by option.

    Args:
        high: weight of the half that mends the gap, not negative.
        low: weight of the other half, not negative; above ``high`` it reverses the rule.
        temperature: divides both logits, above 0.
        weighting: ``"hard"``, or ``"soft"`` for weights that follow the gap.
        kappa: how fast soft weights follow it, not negative.
        normalise: divide the weights by their sum, so that they do not scale the gradient.
        detach_weights: False lets soft weights take a gradient, for research.
        entropy_temperature: at which confidences are compared; None for ``temperature``.
        confidence: measured by ``"entropy"``, or by ``"max_prob"``, the highest probability.
        tie_tol: a gap up to this is a tie to the hard rule.
        granularity: what is decided at once: ``"token"``, each position; ``"sample"``, another name
            for it where a position is an image; ``"sequence"``, all positions ``(T,)`` that count
            in a row of ``(B, T)``, by their mean gap (a packed row is one row). It costs one more
            pass without gradients and one with them, and its weights take no gradient.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: an argument outside its range; ``"sequence"`` and weights with a gradient.

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
        if entropy_temperature is not None and not 0 < entropy_temperature < torch.inf:
            raise ValueError(
                f"entropy_temperature must be above 0 and finite, or None, got"
                f" {entropy_temperature}"
            )
        if granularity not in ("token", "sample", "sequence"):
            raise ValueError(
                f"granularity must be 'token', 'sample' or 'sequence', got {granularity!r}"
            )
        if granularity == "sequence" and not detach_weights:
            raise ValueError(
                "detach_weights=False, but the weights of granularity='sequence' take no gradient;"
                " use granularity='token'"
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
        """``(n, V), (n, V) -> (n,)``."""
        if self.granularity == "sequence":
            raise ValueError(
                "granularity='sequence' decides by all positions of a sequence, and here rows are"
                " evaluated one by one; use granularity='token', or BDKD by itself"
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

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum over the positions that count."""
        if self.granularity != "sequence":
            return super().forward(inputs)
        self.check(inputs)
        assert inputs.teacher is not None
        halves = [
            token_sum(
                rows,
                inputs.student,
                inputs.teacher,
                mask=inputs.mask,
                weights=weights,
                chunked=inputs.chunked,
            )
            for rows, weights in zip(
                (self._forward_rows, self._reverse_rows),
                self._sequence_weights(inputs),
                strict=True,
            )
        ]
        return Loss(halves[0].total + halves[1].total, halves[0].count)

    @torch.no_grad()
    def _sequence_weights(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Weights of both halves, the same at all positions of a sequence, (..., T), (..., T)."""
        assert inputs.teacher is not None
        gaps = token_values(
            self._gap_rows, inputs.student, inputs.teacher, mask=inputs.mask, chunked=inputs.chunked
        )
        positions = inputs.student.shape[:-1]
        length = positions[-1] if positions else 1
        sequence = inputs.valid_positions().to(gaps.device) // length
        count = positions.numel() // length
        sums = gaps.new_zeros(count).index_add_(0, sequence, gaps)
        sizes = gaps.new_zeros(count).index_add_(0, sequence, torch.ones_like(gaps))
        means = (sums / sizes.clamp(min=1)).unsqueeze(-1).expand(-1, length).reshape(positions)
        return balance(means, **self._rule())

    def _rule(self) -> dict[str, Any]:
        names = ("high", "low", "weighting", "kappa", "normalise", "tie_tol")
        return {name: getattr(self, name) for name in names}

    def _gap_rows(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        at = self.temperature if self.entropy_temperature is None else self.entropy_temperature
        return confidence_gap(student, teacher, temperature=at, confidence=self.confidence)

    def _forward_rows(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return self._scale() * losses.forward_kl(student, teacher, temperature=self.temperature)

    def _reverse_rows(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        return self._scale() * losses.reverse_kl(student, teacher, temperature=self.temperature)

    def _scale(self) -> float:
        return self.temperature**2 if self.temperature_squared else 1.0
