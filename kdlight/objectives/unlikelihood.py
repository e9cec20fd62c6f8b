"""Unlikelihood: away from wrong traces, by a force that dies."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.objectives.unpaired_preference import UnpairedPreference
from kdlight.reduce import PerTokenValues


class Unlikelihood(UnpairedPreference):
    r"""Likelihood of right traces, `kdlight.losses.unlikelihood` of wrong ones.

    .. math:: -\frac{1}{N_w} \sum_{y \in w} m(y) + \frac{\alpha}{N_l} \sum_{y \in l}
              \frac{1}{|y|} \sum_t -\log(1 - q_{t, y_t})

    Welleck et al., "Neural Text Generation with Unlikelihood Training", 2020. The control for
    `REDI` that costs the same: it has a lower bound, since the push on a token dies with its
    probability.

    Args:
        alpha: weight of wrong traces, in [0, 1].
        chosen_weight: weight of right ones.
        rejected_per_chosen: how many wrong traces the data hold for a right one; 1 for pairs.
        min_rejected_length: divide a shorter wrong trace by this many tokens.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> labels = torch.ones(2, 3, dtype=torch.long)
        >>> inputs = LossInputs(torch.zeros(2, 3, 5), None, labels, rejected=torch.tensor([False, True]))
        >>> Unlikelihood()(inputs).mean()
        tensor(1.7880)
    """

    def __init__(
        self,
        *,
        alpha: float = 0.8,
        chosen_weight: float = 1.0,
        rejected_per_chosen: float = 1.0,
        min_rejected_length: int = 1,
    ) -> None:
        super().__init__(
            alpha=alpha,
            chosen_weight=chosen_weight,
            rejected_per_chosen=rejected_per_chosen,
            min_rejected_length=min_rejected_length,
        )

    def rejected_per_token(self, student: Tensor, teacher: Any, labels: Tensor) -> PerTokenValues:
        """The negative log-probability of any other token."""
        log_prob = -losses.cross_entropy(student.detach(), labels)
        return losses.unlikelihood(student, labels), {"log_prob": log_prob}
