"""Distances between features of the same width, position by position."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from kdlight.checks import check_choice, check_positive
from kdlight.losses.features.inputs import feature_pair
from kdlight.losses.features.normalization import unit_rows

KINDS = ("mse", "smooth_l1", "cosine", "normalized_mse")
"""The kinds of `feature_distance`."""


def feature_distance(
    student: Tensor, teacher: Tensor, *, kind: str = "mse", beta: float = 1.0
) -> Tensor:
    r"""Distance between the features of each position, (..., D), (..., D) -> (...).

    .. math:: \frac1D \| s - t \|_2^2, \qquad
              \frac1D \sum_d h_\beta(s_d - t_d), \qquad
              1 - \frac{\langle s, t \rangle}{\| s \|_2 \| t \|_2}, \qquad
              \left\| \frac{s}{\| s \|_2} - \frac{t}{\| t \|_2} \right\|_2^2

    for the kinds ``"mse"``, ``"smooth_l1"``, ``"cosine"`` and ``"normalized_mse"``, where
    :math:`h_\beta(x) = x^2 / (2 \beta)` for :math:`|x| < \beta` and :math:`|x| - \beta / 2`
    elsewhere. The first is usual for hidden states; the second limits the influence of the few very
    large entries that transformers have; the last two compare directions only, and the fourth is
    twice the third.

    A student of another width needs a projection to the teacher's width first. A row of zeros has
    no direction: its cosine with any row is 0, its normalized row is 0, and its gradient is 0.

    Args:
        student: Features of the student.
        teacher: Features of the teacher, of the same shape.
        kind: ``"mse"``, ``"smooth_l1"``, ``"cosine"`` or ``"normalized_mse"``.
        beta: Where ``"smooth_l1"`` changes from a square to an absolute value.

    Returns:
        One value per position, in float32 or wider.

    Raises:
        ValueError: If the shapes differ, the kind is unknown, or ``beta`` is not above 0 and
            finite.
        TypeError: If the features are not floating point.

    Romero et al., FitNets: Hints for Thin Deep Nets, 2015, eq. (3), up to a factor (mse); Girshick,
    Fast R-CNN, 2015, eq. (3) (smooth L1); Sanh, Debut, Chaumond, Wolf,
    DistilBERT, 2019 (cosine); Sun et al., Patient Knowledge Distillation for BERT Model
    Compression, 2019 (normalized mse).

    >>> import torch
    >>> student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    >>> [feature_distance(student, teacher, kind=kind) for kind in ("mse", "cosine")]
    [tensor([6.5000]), tensor([0.2000])]
    """
    check_choice("kind", kind, KINDS)
    check_positive("beta", beta)
    student, teacher = feature_pair(student, teacher)
    _check_shapes(student, teacher)
    if kind == "mse":
        return (student - teacher).square().mean(-1)
    if kind == "smooth_l1":
        return smooth_l1_loss(student, teacher, reduction="none", beta=beta).mean(-1)
    student, teacher = unit_rows(student), unit_rows(teacher)
    # 1 - <s, t> would lose the digits of small distances
    squares = (student - teacher).square().sum(-1)
    if kind == "normalized_mse":
        return squares
    zeros = [(rows == 0).all(-1).to(squares) for rows in (student, teacher)]
    return (squares + zeros[0] + zeros[1]) / 2


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    shapes = f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if student.shape != teacher.shape:
        same = student.shape[:-1] == teacher.shape[:-1]
        hint = "; project the student's features to the teacher's width" if same else ""
        raise ValueError(
            f"student and teacher features must have one shape (..., D), got {shapes}{hint}"
        )
    if student.dim() == 0 or not student.shape[-1]:
        raise ValueError(f"features must have a width D of at least 1, got {shapes}")
