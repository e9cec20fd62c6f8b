"""Correlations between the channels of a map, as the teacher has them."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.features.inter_channel_correlation import inter_channel_correlation
from kdlight.objectives.features.channels import channels_last, check_channels
from kdlight.objectives.features.projected_objective import ProjectedObjective
from kdlight.objectives.features.selected_samples import check_no_padding, selected_samples
from kdlight.objectives.inputs import LossInputs


class InterChannelCorrelation(ProjectedObjective):
    """The difference of channel correlations, `kdlight.losses.inter_channel_correlation`.

    Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge
    Distillation", 2021. Choose it for convolutional networks. Maps may have any sizes; a linear map
    of the channels of the student makes their number that of the teacher.

    Args:
        pairs: see `kdlight.objectives.FeatureObjective`; maps ``(B, C, ...)``.
        projector: see `kdlight.objectives.HiddenStates`.
        sizes: widths of student and teacher; None if their modules tell.

    Raises:
        ValueError: an unknown ``projector``; ``sizes`` are not two integers above 0; a feature is
            no map ``(B, C, ...)``.

    Example:
        >>> from kdlight.objectives import LossInputs
        >>> x, one = torch.zeros(4, 8), torch.randn(4, 3, 5, 5)
        >>> inputs = LossInputs(x, x, student_features={"a": one}, teacher_features={"b": 2 * one})
        >>> round(InterChannelCorrelation({"a": "b"})(inputs).mean().item(), 6)
        0.0
    """

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the sum of the losses of samples."""
        path = list(self.paths)[pair]
        check_no_padding(inputs, path)
        ours, theirs, counts = selected_samples(student, teacher, inputs, path)
        if ours.dim() < 3:
            raise ValueError(
                f"the feature {path!r} must be a map (B, C, ...), got {tuple(student.shape)}"
            )
        ours = self.project(channels_last(ours, 1), pair).logits().movedim(-1, 1)
        check_channels(ours.shape[1], theirs.shape[1], path)
        with torch.autocast(ours.device.type, enabled=False):
            return (inter_channel_correlation(ours, theirs) * counts).sum()
