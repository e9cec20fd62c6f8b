"""The common ground of divergences between two tempered distributions."""

from __future__ import annotations

from math import inf
from typing import Any

from torch import Tensor

from kdlight.objectives.by_token import TokenObjective


class Divergence(TokenObjective):
    r"""A divergence between the softmaxes of logits over a temperature.

    The gradient of a divergence of softmaxes at temperature :math:`T` shrinks like
    :math:`1/T^2`; multiplying by :math:`T^2` keeps its size beside other terms (Hinton, Vinyals,
    Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).

    Args:
        temperature: divides both logits, above 0. May be moved by a callback.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: temperature is not above 0 and finite.

    Example:
        >>> import torch
        >>> from kdlight.objectives import Step
        >>> class SquaredDistance(Divergence):
        ...     def divergence(self, student, teacher, labels):
        ...         return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)
        >>> SquaredDistance()(Step(torch.zeros(4, 7), torch.zeros(4, 7))).total
        tensor(0.)
    """

    def __init__(self, *, temperature: float = 1.0, temperature_squared: bool = True) -> None:
        super().__init__()
        if not 0 < temperature < inf:
            raise ValueError(f"temperature must be above 0 and finite, got {temperature}")
        self.temperature = float(temperature)
        self.temperature_squared = bool(temperature_squared)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """The divergence of each row at ``self.temperature``, without the square."""
        raise NotImplementedError(f"{type(self).__name__} does not define divergence()")

    def slopes(self, student: Tensor, teacher: Tensor, labels: Any) -> tuple[Tensor, Tensor] | None:
        """Values and slopes of `divergence` at temperature 1, or None; see `closed_form`."""
        return None

    def rows(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        """The divergence of each row, times the square of the temperature if so chosen."""
        values = self.divergence(student, teacher, labels)
        return values * self.temperature**2 if self.temperature_squared else values

    def closed_form(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """`slopes` at ``self.temperature``."""
        at, square = self.temperature, self.temperature_squared
        if at == 1:
            return self.slopes(student, teacher, labels)
        found = self.slopes(student / at, teacher / at, labels)
        if found is None:
            return None
        values, slopes = found
        return (values * at**2, slopes.mul_(at)) if square else (values, slopes.div_(at))
