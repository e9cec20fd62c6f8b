"""Decoupled KL: the target and the other classes, with a weight each."""

from __future__ import annotations

from math import inf
from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_range
from kdlight.losses import value_and_grad_decoupled
from kdlight.objectives.token_objective import Divergence


class DecoupledKL(Divergence):
    """KL on the target plus KL among the other classes, `kdlight.losses.decoupled_kl`.

    Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", 2022 (DKD), eq. (7). Choose it
    for classifiers with a confident teacher: forward KL gives its knowledge of the other classes
    almost no weight. Needs labels.

    Args:
        target_weight: weight of the term on the target, not negative.
        non_target_weight: weight of the term among the other classes, not negative.
        temperature: divides both logits, above 0.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits = torch.randn(4, 7)
        >>> labels = torch.tensor([0, 3, 6, 2])
        >>> DecoupledKL(temperature=4.0)(LossInputs(logits, logits, labels)).mean().item()
        0.0
    """

    needs = frozenset({"teacher", "labels"})

    def __init__(
        self,
        *,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        temperature: float = 1.0,
        temperature_squared: bool = True,
    ) -> None:
        super().__init__(temperature=temperature, temperature_squared=temperature_squared)
        self.target_weight = float(target_weight)
        self.non_target_weight = float(non_target_weight)
        self._check_weights()

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row, ``(n, V), (n, V), (n,) -> (n,)``."""
        return losses.decoupled_kl(
            student,
            teacher,
            labels,
            target_weight=self.target_weight,
            non_target_weight=self.non_target_weight,
            temperature=self.temperature,
        )

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute the divergence and its gradient."""
        self._check_weights()  # a callback may have changed them
        return value_and_grad_decoupled.decoupled_kl(
            student, teacher, labels, self.target_weight, self.non_target_weight
        )

    def _check_weights(self) -> None:
        for name in ("target_weight", "non_target_weight"):
            check_range(name, getattr(self, name), 0.0, inf, open_high=True)
