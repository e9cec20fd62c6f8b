"""Linear centered kernel alignment, a similarity of two representations of the same samples."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.features.inner_products import inner_products
from kdlight.losses.features.inputs import check_rows, feature_pair
from kdlight.losses.features.normalization import scaled


def linear_cka(student: Tensor, teacher: Tensor, *, debiased: bool = False) -> Tensor:
    r"""Similarity of features by linear centered kernel alignment (CKA), (B, D), (B, D') -> ().

    .. math:: \frac{\| Y^\top X \|_F^2}{\| X^\top X \|_F \, \| Y^\top Y \|_F}
              = \frac{\langle K, L \rangle_F}{\| K \|_F \, \| L \|_F}, \qquad
              K = X X^\top, \quad L = Y Y^\top

    for features X and Y minus their mean over the batch. It is 1 if one side is the other up to a
    shift, a scale and an orthogonal transform, and 0 if they are uncorrelated or a side is
    constant. A loss is 1 minus this value. The cheaper of the two forms is computed.

    With few samples and many features the value is high also for unrelated features. ``debiased``
    uses unbiased estimates of the Hilbert-Schmidt independence criterion instead, whose expectation
    is 0 then; it is computed from the Gram matrices, lies in [-1, 1], and is 0 if all samples of
    a side are at the same distance from each other.

    Args:
        student: Features of the student, one row a sample.
        teacher: Features of the teacher for the same samples.
        debiased: Use the unbiased estimate, for small batches.

    Returns:
        The similarity, in float32 or wider; 0, with a graph, if a side is constant.

    Raises:
        ValueError: If the numbers of samples differ, a side is not (B, D), or there are fewer than
            4 samples with ``debiased``.
        TypeError: If the features are not floating point.

    Kornblith, Norouzi, Lee, Hinton, Similarity of Neural Network Representations Revisited, 2019,
    section 3 with linear kernels; Song, Smola, Gretton, Bedo, Borgwardt, Feature Selection via
    Dependence Maximization, 2012, on the unbiased estimate.

    >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> linear_cka(student, student[:, :1]), linear_cka(student, torch.ones(3, 5))
    (tensor(0.7906), tensor(0.))
    """
    student, teacher = feature_pair(student, teacher)
    check_rows(student, teacher)
    count = len(student)
    if debiased and count < 4:
        raise ValueError(
            f"debiased CKA needs at least 4 samples, got {count}; use a larger batch, or "
            "debiased=False"
        )
    x, y = centered(student), centered(teacher)
    if debiased:
        return _alignment(_u_centered(x), _u_centered(y))
    return from_grams(x, y) if count < x.shape[-1] + y.shape[-1] else from_covariances(x, y)


def centered(rows: Tensor) -> Tensor:
    """Subtract the mean of each column, and divide all by one constant, (B, D) -> (B, D).

    A column whose numbers are all the same is exactly 0 afterwards.

    >>> centered(torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]]))
    tensor([[ 0., -1.],
            [ 0.,  0.],
            [ 0.,  1.]])
    """
    if not rows.numel():
        return rows
    rows = rows - rows.detach().mean(0)
    # Far from 0 that mean was rounded. The mean of what is left, a few units of rounding if the
    # column is constant, is exact.
    rows = rows - rows.mean(0)
    return scaled(rows, (0, 1))


def from_grams(x: Tensor, y: Tensor) -> Tensor:
    """Alignment of centered rows by their (B, B) inner products, (B, D), (B, D') -> ()."""
    return _alignment(inner_products(x), inner_products(y))


def from_covariances(x: Tensor, y: Tensor) -> Tensor:
    """The same value by products of width x width, (B, D), (B, D') -> ()."""
    width = x.shape[-1]
    squares = inner_products(torch.cat([x, y], -1).mT).square()
    own, other = squares[:width, :width].sum(), squares[width:, width:].sum()
    return _ratio(squares[:width, width:].sum(), own, other)


def _alignment(k: Tensor, m: Tensor) -> Tensor:
    return _ratio((k * m).sum(), k.square().sum(), m.square().sum())


def _ratio(product: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Compute ``product / sqrt(first * second)``, and 0 with a gradient of 0 if a factor is 0."""
    zero = (first == 0) | (second == 0)
    first, second = (each.masked_fill(zero, 1.0) for each in (first, second))
    return product.masked_fill(zero, 0.0) / (first.sqrt() * second.sqrt())


def _u_centered(x: Tensor) -> Tensor:
    """Inner products without the diagonal, centered so that means are unbiased, (B, D) -> (B, B).

    The inner product of two such matrices, divided by B (B - 3), is the estimate of Song et al.
    (Szekely, Rizzo, Partial Distance Correlation with Methods for Dissimilarities, 2014).
    """
    count, width = x.shape
    gram = inner_products(x)
    diagonal = torch.eye(count, dtype=torch.bool, device=x.device)
    off = gram.masked_fill(diagonal, 0.0)
    sums = off.sum(-1) / (count - 2)
    result = off - sums[:, None] - sums + sums.sum() / (count - 1)
    result = result.masked_fill(diagonal, 0.0)
    # What is left of samples at equal distances is rounding, which must not be divided by itself.
    rounding = 2 * torch.finfo(x.dtype).eps * (count * width) ** 0.5 * gram.detach().norm()
    return result.masked_fill(result.detach().norm() <= rounding, 0.0)
