"""A temperature that plays against the student (CTKD)."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.losses.checks import check_range
from kdlight.losses.log_space import widen
from kdlight.objectives.forward_kl import ForwardKL
from kdlight.objectives.token_objective import Divergence, TokenObjective
from kdlight.reduce import PerTokenValues


class LearnableTemperature(TokenObjective):
    r"""A divergence whose temperature is learned against the student.

    .. math:: \min_{student} \max_g\; T^2 D(q^T, p^T), \qquad T = low + span\,\sigma(g)

    Li et al., "Curriculum Temperature for Knowledge Distillation", 2022 (CTKD). The temperature
    makes the task harder, as far as ``strength`` lets it: its gradient is that of the loss, times
    ``-strength``. `kdlight.callbacks.HyperparameterScheduler` raises the strength from 0 to 1, and so makes the
    curriculum. Choose it where no temperature is known to be good.

    The parameter ``g`` belongs to the objective, and `kdlight.DistillationModule` gives it to the
    optimizer in a group of its own. The authors train with SGD. Adam divides a gradient by its
    recent size: it feels the sign of the strength and how it grows, and moves ``g`` by about the
    learning rate a inputs, so a short run shows little.

    The factor :math:`T^2` keeps the size of the student's gradients. Seen by the temperature, it
    is a way to raise the loss without making anything harder, and the temperature runs to its upper
    end; so it is hidden from it. The authors' code shows it (``square_hidden=False``).

    Args:
        objective: the divergence, at temperature 1 by itself; None for `ForwardKL`. Its
            ``temperature_squared`` decides about the factor.
        low: lower end of the temperature, above 0.
        span: distance to the upper end, not negative.
        start: first value of g; the default gives a temperature of 15.6.
        strength: how much the temperature plays against the student, not negative; at 0 it rests.
        square_hidden: hide the factor :math:`T^2` from the temperature.

    Raises:
        ValueError: a number outside its range; an objective with a temperature of its own.
        TypeError: objective is no `Divergence`.

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
        if not isinstance(objective, Divergence):
            raise TypeError(f"objective must be a Divergence, got {type(objective).__name__}")
        if objective.temperature != 1:
            raise ValueError(
                "the temperature of objective is learned here, so its own must be 1, got"
                f" {objective.temperature}"
            )
        if not 0 < low < inf:
            raise ValueError(f"low must be above 0 and finite, got {low}")
        check_range("span", span, 0.0, inf, open_high=True)
        check_range("start", abs(start), 0.0, inf, open_high=True)
        check_range("strength", strength, 0.0, inf, open_high=True)
        self.objective = objective
        self.needs = objective.needs
        self.low, self.span, self.strength = float(low), float(span), float(strength)
        self.square_hidden = bool(square_hidden)
        self.g = nn.Parameter(torch.tensor([float(start)]))  # FSDP1 takes no number, only vectors

    @property
    def temperature(self) -> float:
        """The temperature as it stands."""
        return self._temperature(self.g.detach()).item()

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """``(n, V), (n, V), (n,) -> (n,)``, and the temperature for the log."""
        # the value of g, and its gradient turned round
        g = self.g.detach() - self.strength * (self.g - self.g.detach())
        temperature = self._temperature(g)
        values = self.objective.divergence(
            _over(student, temperature), _over(teacher, temperature), labels
        )
        if self.objective.temperature_squared:
            scale = temperature.detach() if self.square_hidden else temperature
            values = values * scale**2
        return values, {"temperature": temperature.detach().expand_as(values)}

    def _temperature(self, g: Tensor) -> Tensor:
        return self.low + self.span * widen(g).sigmoid()


def _over(logits: Tensor, temperature: Tensor) -> Tensor:
    # -inf over T is -inf whatever T is; its slope, 0 * inf, would be NaN
    logits = widen(logits)
    outside = logits == -inf
    return (logits.masked_fill(outside, 0.0) / temperature).masked_fill(outside, -inf)
