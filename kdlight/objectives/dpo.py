"""Direct preference optimisation against a frozen reference model."""

from __future__ import annotations

from math import inf

from torch import Tensor

from kdlight import losses
from kdlight.objectives.paired_preference import PairedPreference


class DPO(PairedPreference):
    """`kdlight.losses.dpo` of pairs of traces; the teacher is the reference model.

    Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward
    Model", 2023. A baseline for `kdlight.objectives.REDI`. The reference model is the student as it
    was when this stage began: give the `kdlight.DistillationModule` the same export as ``teacher``
    and as ``student``. It is frozen there, and only sums of log-probabilities are made of it.

    Args:
        beta: how much a nat of margin over the reference counts, above 0. The margin is one of
            sums: for traces of thousands of tokens small values are usual.

    Raises:
        ValueError: beta is not above 0.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits, labels = torch.zeros(2, 3, 5), torch.ones(2, 3, dtype=torch.long)
        >>> pair = LossInputs(logits, logits, labels, rejected=torch.tensor([False, True]))
        >>> DPO()(pair).mean()  # log 2: the student is as it was
        tensor(0.6931)
    """

    needs = frozenset({"teacher", "labels", "rejected"})

    def __init__(self, *, beta: float = 0.1) -> None:
        super().__init__()
        if not 0 < beta < inf:
            raise ValueError(f"beta must be above 0 and finite, got {beta}")
        self.beta = float(beta)

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        """`kdlight.losses.dpo` of the sums."""
        assert reference is not None
        return losses.dpo(*sums, *reference.to(sums.dtype), beta=self.beta)
