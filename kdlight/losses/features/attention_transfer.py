"""Attention transfer: where in a map the features are large."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from kdlight.checks import check_at_least, check_finite
from kdlight.losses.features.inputs import check_maps, feature_pair
from kdlight.losses.features.normalization import scaled, unit_rows

POOLING = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


def attention_transfer(student: Tensor, teacher: Tensor, *, p: float = 2.0) -> Tensor:
    r"""Distance between spatial attention maps per sample, (B, C, ...), (B, C', ...) -> (B,).

    .. math:: \frac1S \left\| \frac{Q_s}{\| Q_s \|_2} - \frac{Q_t}{\| Q_t \|_2} \right\|_2^2, \qquad
              Q = \frac1C \sum_c | F_c |^p

    S is the number of positions, and Q has one entry for each. The mean over the batch is the loss
    of the authors' code, which takes the mean of squares over positions; the equation of the paper
    has the norm instead of its square, and a factor 1/2. The numbers of channels may differ, so no
    projection is needed. The value does not depend on the scale of either side, nor on the order of
    channels. A sample whose features are all 0 has an attention map of 0, and a gradient of 0.

    If the sizes of an axis of positions differ, the larger map is reduced to the smaller one by
    adaptive average pooling of the features, before powers are taken.

    Args:
        student: Maps of the student. Sequences (B, T, D) must be transposed to (B, D, T).
        teacher: Maps of the teacher for the same samples, with as many axes.
        p: Exponent of the features, at least 1. Larger ones emphasize the most active positions.

    Returns:
        One value per sample, in float32 or wider.

    Raises:
        ValueError: If the samples differ in number, the axes do not fit, or ``p`` is out of range.
        TypeError: If the features are not floating point.

    Zagoruyko, Komodakis, Paying More Attention to Attention: Improving the Performance of
    Convolutional Neural Networks via Attention Transfer, 2017, section 3.1 and eq. (2).

    >>> import torch
    >>> student, teacher = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    >>> attention_transfer(student, teacher)
    tensor([0.2929])
    """
    check_at_least("p", p, 1.0)
    check_finite("p", p)
    student, teacher = feature_pair(student, teacher)
    check_maps(student, teacher)
    student, teacher = _pooled(student, teacher)
    gap = _attention(student, p) - _attention(teacher, p)
    return gap.square().mean(-1)


def _attention(maps: Tensor, p: float) -> Tensor:
    """Attention maps of norm 1, (B, C, ...) -> (B, S)."""
    maps = scaled(maps.flatten(2), (1, 2))
    powers = maps.square() if p == 2 else maps.abs().pow(p)
    return unit_rows(powers.mean(1))


def _pooled(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller size of each axis of positions."""
    sizes = tuple(student.shape[2:]), tuple(teacher.shape[2:])
    if sizes[0] == sizes[1]:
        return student, teacher
    shapes = f"got shapes {tuple(student.shape)} and {tuple(teacher.shape)}"
    axes = len(sizes[0])
    if axes != len(sizes[1]):
        raise ValueError(
            f"student and teacher maps (B, C, ...) must have the same number of axes, {shapes}; "
            "reshape the tokens of a vision transformer to (B, C, H, W)"
        )
    if axes not in POOLING:
        raise ValueError(
            f"maps of different sizes must have one to three axes of positions, {shapes}"
        )
    smaller = tuple(map(min, *sizes))
    return tuple(  # type: ignore[return-value]
        maps if size == smaller else POOLING[axes](maps, smaller)
        for maps, size in zip((student, teacher), sizes, strict=True)
    )
