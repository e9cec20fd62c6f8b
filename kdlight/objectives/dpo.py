"""DPO: direct preference optimisation relative to a frozen reference model."""

from __future__ import annotations

from torch import Tensor

from kdlight import losses
from kdlight.checks import check_positive
from kdlight.objectives.paired_preference import PairedPreference


class DPO(PairedPreference):
    """`kdlight.losses.dpo` of pairs of sequences, with the teacher as reference model.

    Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward
    Model", 2023. A baseline for `kdlight.objectives.REDI`. The reference model is the student at
    the start of this stage: give the `kdlight.DistillationModule` the same export as ``teacher``
    and as ``student``. The teacher is frozen, and only its summed log-probabilities are kept.

    Args:
        beta: scale of the margin over the reference model, in nats; above 0. The margin is a
            difference of sums, so small values are usual for sequences of thousands of tokens.

    Raises:
        ValueError: beta is not above 0 and finite.

    Example:
        >>> import torch
        >>> from kdlight.objectives import LossInputs
        >>> logits, labels = torch.zeros(2, 3, 5), torch.ones(2, 3, dtype=torch.long)
        >>> pair = LossInputs(logits, logits, labels, rejected=torch.tensor([False, True]))
        >>> DPO()(pair).mean()  # log 2: the student is the reference model
        tensor(0.6931)
    """

    needs = frozenset({"teacher", "labels", "rejected"})

    def __init__(self, *, beta: float = 0.1) -> None:
        super().__init__()
        check_positive("beta", beta)
        self.beta = float(beta)

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        """Compute `kdlight.losses.dpo` of the summed log-probabilities."""
        assert reference is not None
        return losses.dpo(*sums, *reference.to(sums.dtype), beta=self.beta)
