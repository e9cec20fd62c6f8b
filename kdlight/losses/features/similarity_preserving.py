"""Similarity-preserving distillation: which samples of a batch resemble each other."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.features.inner_products import inner_products
from kdlight.losses.features.inputs import check_batch, feature_pair
from kdlight.losses.features.normalization import scaled, unit_rows


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Distance between the similarities of samples, (B, D), (B, D') -> ().

    .. math:: \frac1{B^2} \| G_t - G_s \|_F^2, \qquad G = \operatorname{normalize}(F F^\top)

    Row i of G holds the inner products of sample i with all samples of the batch, divided by their
    Euclidean norm. The widths may differ, so no projection is needed. The value does not depend on
    the scale of either side, nor on an orthogonal transform of its features. It depends on the
    batch: larger batches have more pairs, and smaller values.

    Args:
        student: Features of the student, (B, ...); all axes after the first are flattened.
        teacher: Features of the teacher for the same samples.

    Returns:
        The loss, in float32 or wider; 0, with a graph, if there are no samples.

    Raises:
        ValueError: If the numbers of samples differ, or samples have no entries.
        TypeError: If the features are not floating point.

    Tung, Mori, Similarity-Preserving Knowledge Distillation, 2019, section 3.1; the relation
    metric of Dong, Li, Wei, DisWOT: Student Architecture Search for Distillation WithOut Training,
    2023.

    >>> import torch
    >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.ones(2, 3)
    >>> similarity_preserving(student, teacher)
    tensor(0.2929)
    """
    student, teacher = feature_pair(student, teacher)
    check_batch(student, teacher)
    gap = _similarities(teacher) - _similarities(student)
    return gap.square().sum() / max(gap.numel(), 1)


def _similarities(features: Tensor) -> Tensor:
    rows = scaled(features.flatten(1), (0, 1))
    return unit_rows(inner_products(rows))
