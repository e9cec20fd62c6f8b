"""Unlikelihood: lowers the probability of rejected sequences, with a vanishing gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdlight import losses
from kdlight.objectives.unpaired_preference import UnpairedPreference
from kdlight.reduce import PerTokenValues


class Unlikelihood(UnpairedPreference):
    r"""Likelihood of chosen sequences, `kdlight.losses.unlikelihood` of rejected ones.

    .. math:: -\frac{1}{N_w} \sum_{y \in w} m(y) + \frac{\alpha}{N_l} \sum_{y \in l}
              \frac{1}{|y|} \sum_t -\log(1 - q_{t, y_t})

    Welleck et al., "Neural Text Generation with Unlikelihood Training", 2020. A bounded
    baseline for `REDI` at the same cost: the gradient of a token vanishes with its probability, so
    the loss has a lower bound.

    Args:
        alpha: weight of the rejected sequences, in [0, 1].
        chosen_weight: weight of the chosen sequences, not negative.
        rejected_per_chosen: rejected sequences in the data per chosen one; 1 for pairs.
        min_rejected_length: shorter rejected sequences are divided by this many tokens.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> labels = torch.ones(2, 3, dtype=torch.long)
        >>> rejected = torch.tensor([False, True])
        >>> inputs = LossInputs(torch.zeros(2, 3, 5), None, labels, rejected=rejected)
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
        """Compute the negative log-probability of any other token than the label."""
        log_prob = -losses.cross_entropy(student.detach(), labels)
        return losses.unlikelihood(student, labels), {"log_prob": log_prob}
