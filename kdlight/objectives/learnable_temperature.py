"""CTKD: a temperature that is trained to maximize the student's loss."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.checks import check_finite, check_instance, check_positive, check_range
from kdlight.losses.log_space import FORBIDDEN, shifted, widen
from kdlight.objectives.forward_kl import ForwardKL
from kdlight.objectives.token_objective import Divergence, TokenObjective
from kdlight.reduce import PerTokenValues


class LearnableTemperature(TokenObjective):
    r"""A divergence whose temperature is trained adversarially to the student.

    .. math:: \min_{student} \max_g\; T^2 D(q^T, p^T), \qquad T = low + span\,\sigma(g)

    Li et al., "Curriculum Temperature for Knowledge Distillation", 2022 (CTKD). The temperature
    makes the task harder: its gradient is that of the loss, times ``-strength``.
    `kdlight.callbacks.HyperparameterScheduler` can raise the strength from 0 to 1, which is the
    curriculum. Choose it if no good temperature is known.

    The parameter ``g`` belongs to the objective, and `kdlight.DistillationModule` gives it a
    parameter group of its own. The authors train with SGD. Adam divides a gradient by its recent
    magnitude, so only the sign and the growth of ``strength`` matter to it: it changes ``g`` by
    about the learning rate per step, so the temperature changes little in a short run.

    The factor :math:`T^2` keeps the size of the student's gradients. If the temperature were
    trained on it as well, it could raise the loss without making the task harder, and would run to
    its upper end; so the factor takes no gradient. In the authors' code it does
    (``square_hidden=False``).

    Args:
        objective: the divergence, with a temperature of 1; None for `ForwardKL`. Its
            ``temperature_squared`` turns the factor :math:`T^2` on.
        low: lower end of the temperature, above 0.
        span: distance to the upper end, not negative.
        start: initial value of g; the default gives a temperature of 15.6.
        strength: factor of the reversed gradient, not negative; at 0 the temperature is not
            trained.
        square_hidden: keep the gradient of the factor :math:`T^2` from the temperature.

    Raises:
        ValueError: a hyper-parameter is out of range; an objective with a temperature of its own.
        TypeError: objective is not a `Divergence`.

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> objective = LearnableTemperature(strength=1.0)
        >>> objective(LossInputs(torch.randn(4, 7), torch.randn(4, 7))).mean().backward()
        >>> round(objective.temperature, 2), objective.g.grad is None
        (15.62, False)
    """

    def __init__(
        self,
        objective: Divergence | None = None,
        *,
        low: float = 1.0,
        span: float = 20.0,
        start: float = 1.0,
        strength: float = 1.0,
        square_hidden: bool = True,
    ) -> None:
        super().__init__()
        objective = ForwardKL() if objective is None else objective
        check_instance("objective", objective, Divergence)
        if objective.temperature != 1:
            raise ValueError(
                "objective must have a temperature of 1, as its temperature is learned here, got"
                f" {objective.temperature}"
            )
        check_positive("low", low)
        check_range("span", span, 0.0, inf, open_high=True)
        check_finite("start", start)
        check_range("strength", strength, 0.0, inf, open_high=True)
        self.objective = objective
        self.needs = objective.needs
        self.low, self.span, self.strength = float(low), float(span), float(strength)
        self.square_hidden = bool(square_hidden)
        self.g = nn.Parameter(torch.tensor([float(start)]))  # FSDP1 cannot shard a 0-d tensor

    @property
    def temperature(self) -> float:
        """The current temperature."""
        return self._temperature(self.g.detach()).item()

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Compute the loss of each row, ``(n, V), (n, V), (n,) -> (n,)``; log the temperature."""
        # the value of g, with its gradient times -strength
        g = self.g.detach() - self.strength * (self.g - self.g.detach())
        temperature = self._temperature(g)
        values = self.objective.divergence(
            _divide(student, temperature), _divide(teacher, temperature), labels
        )
        if self.objective.temperature_squared:
            scale = temperature.detach() if self.square_hidden else temperature
            values = values * scale**2
        return values, {"temperature": temperature.detach().expand_as(values)}

    def _temperature(self, g: Tensor) -> Tensor:
        return self.low + self.span * widen(g).sigmoid()


def _divide(logits: Tensor, temperature: Tensor) -> Tensor:
    # -inf / T is -inf for every T, but its gradient in T, 0 * inf, would be NaN. The highest logit
    # becomes 0, see `kdlight.losses.log_space.tempered`
    logits = shifted(widen(logits))
    outside = logits <= -FORBIDDEN
    return (logits.masked_fill(outside, 0.0) / temperature).masked_fill(outside, -inf)
