"""TAID: KL to a target that moves from the student to the teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad
from kdlight.losses.log_space import log_probs
from kdlight.objectives.token_objective import TokenObjective
from kdlight.reduce import PerTokenValues


class TAID(TokenObjective):
    """KL to a target interpolated between student and teacher, `kdlight.losses.taid`.

    Shing et al., "TAID: Temporally Adaptive Interpolated Distillation", 2025. At ``t = 0`` the
    target is the student itself, at ``t = 1`` the teacher. `kdlight.callbacks.AdaptiveTAID`
    changes ``t`` during training; without it ``t`` is constant. Choose it if the capacity gap
    between teacher and student is large.

    Args:
        t: the weight of the teacher in the target, in [0, 1].
        log_cross_entropy: also log the cross-entropy with the target, which the authors' schedule
            uses as its signal (``AdaptiveTAID(signal="cross_entropy")`` turns this on).

    Raises:
        ValueError: t is outside [0, 1].

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> objective = TAID(t=0.0)
        >>> objective(LossInputs(torch.randn(2, 5), torch.randn(2, 5))).mean().item()
        0.0
    """

    def __init__(self, *, t: float = 0.4, log_cross_entropy: bool = False) -> None:
        super().__init__()
        check_range("t", t, 0.0, 1.0)
        self.t = float(t)
        self.log_cross_entropy = bool(log_cross_entropy)

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Compute the loss of each row, ``(n, V), (n, V) -> (n,)``."""
        values = losses.taid(student, teacher, t=self.t)
        if not self.log_cross_entropy:
            return values
        with torch.no_grad():
            entropy = torch.special.entr(self._target(student, teacher)).sum(-1)
        return values, {"cross_entropy": values.detach() + entropy}

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute the loss and its gradient, or return None where the cross-entropy is logged."""
        if self.log_cross_entropy:
            return None
        check_range("t", self.t, 0.0, 1.0)  # a callback may have changed it
        return value_and_grad.taid(student, teacher, self.t)

    def _target(self, student: Tensor, teacher: Tensor) -> Tensor:
        log_q, log_p = log_probs(student), log_probs(teacher)
        if self.t in (0.0, 1.0):  # 0 * -inf would be NaN
            return (log_p if self.t else log_q).exp()
        return log_probs((1 - self.t) * log_q + self.t * log_p).exp()

    # t changes during training, so it is part of the state; it is not a buffer, because casting
    # the module to half precision would round it to steps of 2**-9
    def get_extra_state(self) -> dict[str, float]:
        """Return ``t``, for a checkpoint."""
        return {"t": self.t}

    def set_extra_state(self, state: dict[str, float]) -> None:
        """Restore ``t`` from a checkpoint."""
        self.t = float(state["t"])
