"""Relational distillation by distances: how far the samples of a batch are from each other."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from kdlight.losses.features.inputs import check_rows, feature_pair
from kdlight.losses.features.normalization import scaled, shifted_to_mean
from kdlight.losses.features.pairwise import pairwise_distances


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Huber loss between relative distances of samples, (B, D), (B, D') -> ().

    .. math:: \frac1{B^2} \sum_{i, j} h(\psi^s_{ij} - \psi^t_{ij}), \qquad
              \psi_{ij} = \| x_i - x_j \|_2 / \mu

    where :math:`h(x) = x^2 / 2` for :math:`|x| < 1` and :math:`|x| - 1 / 2` elsewhere, and
    :math:`\mu` is the mean of the distances that are not 0, which takes part in the gradient. As in
    the authors' code the mean is over all pairs, those of a sample with itself included. The widths
    may differ, so no projection is needed. The value does not depend on the scale of either side,
    nor on a shift or an orthogonal transform of its features. Equal rows get no gradient from each
    other.

    Args:
        student: Features of the student, one row a sample.
        teacher: Features of the teacher for the same samples.

    Returns:
        The loss, in float32 or wider; 0, with a graph, if there are fewer than two samples.

    Raises:
        ValueError: If the numbers of samples differ, or a side is not (B, D).
        TypeError: If the features are not floating point.

    Park, Kim, Lu, Cho, Relational Knowledge Distillation, 2019, section 3.2.1.

    >>> import torch
    >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    >>> relational_distance(student, teacher)
    tensor(0.0139)
    """
    student, teacher = feature_pair(student, teacher)
    check_rows(student, teacher)
    ours, theirs = _relative_distances(student), _relative_distances(teacher)
    return smooth_l1_loss(ours, theirs, reduction="sum") / max(ours.numel(), 1)


def _relative_distances(rows: Tensor) -> Tensor:
    distances = pairwise_distances(scaled(shifted_to_mean(rows), (0, 1)))
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.masked_fill(mean == 0, 1.0)
