"""Where a network has large activations, as the teacher has them."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.checks import check_at_least, check_finite
from kdlight.losses.features.attention_transfer import attention_transfer
from kdlight.objectives.features.feature_objective import FeatureObjective, Pairs
from kdlight.objectives.features.selected_samples import check_no_padding, selected_samples
from kdlight.objectives.inputs import LossInputs


class AttentionTransfer(FeatureObjective):
    """The difference of spatial attention maps, `kdlight.losses.attention_transfer`.

    Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of
    Convolutional Neural Networks via Attention Transfer", 2017. Choose it for convolutional
    networks; channels may differ, and a larger map is pooled to the size of a smaller one. The
    weight of the authors' code is 1000 or more, as the mean is over positions.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`; maps ``(B, C, ...)``.
        p: power of the activations, at least 1.

    Raises:
        ValueError: ``p`` is below 1 or not finite; a feature is a sequence with padding.

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> x, maps = torch.zeros(4, 8), torch.randn(4, 3, 5, 5)
        >>> inputs = LossInputs(x, x, student_features={"a": maps}, teacher_features={"b": -maps})
        >>> AttentionTransfer({"a": "b"})(inputs).mean().item()
        0.0
    """

    def __init__(self, pairs: Pairs, *, p: float = 2.0) -> None:
        super().__init__(pairs)
        check_at_least("p", p, 1.0)
        check_finite("p", p)
        self.p = float(p)

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the sum of the losses of samples."""
        path = list(self.paths)[pair]
        check_no_padding(inputs, path)
        ours, theirs, counts = selected_samples(student, teacher, inputs, path)
        with torch.autocast(ours.device.type, enabled=False):
            return (attention_transfer(ours, theirs, p=self.p) * counts).sum()
