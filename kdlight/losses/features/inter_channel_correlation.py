"""Inter-channel correlation: which channels of a sample resemble each other."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.features.inner_products import inner_products
from kdlight.losses.features.inputs import check_maps, feature_pair
from kdlight.losses.features.normalization import scaled, unit_rows


def inter_channel_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Distance between the correlations of channels per sample, (B, C, ...), (B, C, ...) -> (B,).

    .. math:: \frac1C \| G_t - G_s \|_F^2, \qquad G = \operatorname{normalize}(F F^\top)

    F is the map of one sample as a (C, S) matrix, with S positions. Row c of G holds the inner
    products of channel c with all channels, divided by their Euclidean norm. The mean over the
    batch is the published loss. The positions may differ in number and arrangement, the
    channels may not: a student with other channels needs a projection (such as a 1 x 1 convolution)
    first. The value does not depend on the scale of either side, nor on the order of its positions.

    Args:
        student: Maps of the student. Sequences (B, T, D) must be transposed to (B, D, T).
        teacher: Maps of the teacher for the same samples, with the same number of channels.

    Returns:
        One value per sample, in float32 or wider.

    Raises:
        ValueError: If samples or channels differ in number, or a side is not (B, C, ...).
        TypeError: If the features are not floating point.

    Liu et al., Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation,
    2021, divided by C as in the semantic metric of Dong, Li, Wei, DisWOT: Student Architecture
    Search for Distillation WithOut Training, 2023.

    >>> import torch
    >>> student, teacher = torch.eye(2)[None], torch.ones(1, 2, 3)
    >>> inter_channel_correlation(student, teacher)
    tensor([0.5858])
    """
    student, teacher = feature_pair(student, teacher)
    check_maps(student, teacher)
    channels = student.shape[1]
    if channels != teacher.shape[1]:
        raise ValueError(
            "student and teacher maps (B, C, ...) must have the same number of channels, got "
            f"shapes {tuple(student.shape)} and {tuple(teacher.shape)}; project the student's "
            "channels, for instance with a 1 x 1 convolution"
        )
    gap = _correlations(teacher) - _correlations(student)
    return gap.square().sum((1, 2)) / channels


def _correlations(maps: Tensor) -> Tensor:
    channels = scaled(maps.flatten(2), (1, 2))
    return unit_rows(inner_products(channels))
