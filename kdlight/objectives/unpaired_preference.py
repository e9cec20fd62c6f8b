"""The common ground of objectives that move towards some sequences and away from others."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.checks import check_range
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.preference_batch import PreferenceBatch, check_preferences
from kdlight.reduce import Loss, PerTokenValues, token_sum


class UnpairedPreference(Objective):
    r"""A per-sequence mean of one rule over right sequences, and of another over wrong ones.

    .. math:: \frac{c}{N_w} \sum_{y \in w} \frac{1}{|y|} \sum_t r^+_t
              + \frac{\alpha}{N_l} \sum_{y \in l} \frac{1}{|y|} \sum_t r^-_t

    It is a sum over tokens with a weight for each sequence, so right and wrong ones need not meet:
    neither in a pair, nor in a batch, nor on a rank. The one count of a inputs is its sequences,
    :math:`N_w + N_l`, and the relation of the two numbers is told beforehand
    (``rejected_per_chosen``): then every sequence weighs the same whatever company it comes in.

    A subclass writes `chosen_per_token` and `rejected_per_token`. ``step.rejected`` says which sequences are
    wrong; where a step knows no such thing, all are right and :math:`N_w` counts them.

    Args:
        alpha: weight of the wrong sequences, in [0, 1]. May be moved by a callback.
        chosen_weight: weight c of the right ones, not negative.
        rejected_per_chosen: how many wrong sequences the data hold for a right one, above 0.
        min_rejected_length: a shorter wrong sequence is divided by this many tokens instead of its
            own few, which would each be pushed the harder; 1 leaves them.

    Raises:
        ValueError: a number outside its range.
    """

    needs = frozenset({"labels"})
    unit = "sequence"

    def __init__(
        self,
        *,
        alpha: float,
        chosen_weight: float,
        rejected_per_chosen: float,
        min_rejected_length: int,
    ) -> None:
        super().__init__()
        check_range("alpha", alpha, 0.0, 1.0)
        check_range("chosen_weight", chosen_weight, 0.0, inf, open_high=True)
        if not 0 < rejected_per_chosen < inf:
            raise ValueError(f"rejected_per_chosen must be above 0, got {rejected_per_chosen}")
        if min_rejected_length < 1:
            raise ValueError(f"min_rejected_length must be at least 1, got {min_rejected_length}")
        self.alpha, self.chosen_weight = float(alpha), float(chosen_weight)
        self.rejected_per_chosen = float(rejected_per_chosen)
        self.min_rejected_length = int(min_rejected_length)

    def chosen_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """What a token of a right sequence adds, ``(n, V), (n, V), (n,) -> (n,)``.

        With ``{"log_prob": (n,)}`` beside it.
        """
        nll = losses.cross_entropy(student, labels)
        return nll, {"log_prob": -nll}

    def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """What a token of a wrong sequence adds, in the same form."""
        raise NotImplementedError(f"{type(self).__name__} does not define rejected_per_token()")

    def check(self, inputs: LossInputs) -> None:
        """Besides what every objective needs: whole sequences."""
        super().check(inputs)
        check_preferences(inputs, type(self).__name__)

    def forward(self, inputs: LossInputs) -> Loss:
        """Both sides, each in a pass over its own positions."""
        self.check(inputs)
        sides = PreferenceBatch.of(inputs)
        per_chosen = self.rejected_per_chosen if inputs.rejected is not None else 0.0
        chosen_share = 1.0 + per_chosen  # sequences for a right one
        rejected_share = chosen_share / self.rejected_per_chosen
        towards = self._sum(self.chosen_per_token, inputs, sides, sides.chosen, at_least=1)
        away = self._sum(
            self.rejected_per_token,
            inputs,
            sides,
            sides.rejected,
            at_least=self.min_rejected_length,
        )
        total = self.chosen_weight * chosen_share * towards.total
        if self.alpha:  # 0 * inf would be no 0
            total = total + self.alpha * rejected_share * away.total
        return Loss(
            total=total,
            count=(sides.chosen | sides.rejected).sum(),
            parts={
                "chosen_sum": chosen_share * _log_prob(towards),
                "rejected_sum": rejected_share * _log_prob(away),
                "chosen_length": chosen_share * sides.lengths[sides.chosen].sum(),
                "rejected_length": rejected_share * sides.lengths[sides.rejected].sum(),
                "short_rejected": rejected_share * sides.short(self.alpha),
            },
        )

    def _sum(
        self, rows: Any, inputs: LossInputs, sides: PreferenceBatch, side: Tensor, *, at_least: int
    ) -> Loss:
        wide = torch.promote_types(inputs.student.dtype, torch.float32)
        lengths = sides.lengths.clamp(min=at_least).to(wide)
        weights = lengths.reciprocal().unsqueeze(-1).expand(sides.mask.shape)
        return token_sum(
            rows,
            inputs.student,
            inputs.teacher if "teacher" in self.needs else None,
            inputs.labels,
            sides.on(side),
            weights=weights,
            parameters=tuple(p for p in self.parameters() if p.requires_grad),
            chunked=inputs.chunked,
        )


def _log_prob(loss: Loss) -> Tensor:
    return loss.parts.get("log_prob", torch.zeros_like(loss.total.detach()))
