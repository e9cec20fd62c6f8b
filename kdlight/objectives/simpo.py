"""SimPO: simple preference optimisation, without a reference model."""

from __future__ import annotations

from math import inf

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_positive, check_range
from kdlight.objectives.paired_preference import PairedPreference


class SimPO(PairedPreference):
    """`kdlight.losses.simpo` of the mean log-probabilities of pairs of sequences.

    Meng, Xia, Chen, "SimPO: Simple Preference Optimization with a Reference-Free Reward", 2024. A
    baseline for `kdlight.objectives.REDI`.

    Args:
        beta: scale of the margin, in nats; above 0.
        gamma: the scaled margin at which the loss is log 2, not negative.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> labels, rejected = torch.tensor([[1, 2], [0, 2]]), torch.tensor([False, True])
        >>> inputs = LossInputs(torch.zeros(2, 2, 4), labels=labels, rejected=rejected)
        >>> round(SimPO(gamma=0.0)(inputs).mean().item(), 4)
        0.6931
    """

    def __init__(self, *, beta: float = 2.0, gamma: float = 1.0) -> None:
        super().__init__()
        check_positive("beta", beta)
        check_range("gamma", gamma, 0.0, inf, open_high=True)
        self.beta, self.gamma = float(beta), float(gamma)

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        """Compute `kdlight.losses.simpo` of the mean log-probabilities."""
        return losses.simpo(*(sums / lengths), beta=self.beta, gamma=self.gamma)
