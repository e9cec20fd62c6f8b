"""Attention relations: how the tokens of a sequence attend to each other, by any projections."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor

from kdlight.checks import check_choice, check_integer
from kdlight.losses.features.inner_products import inner_products
from kdlight.losses.features.inputs import feature_pair
from kdlight.losses.kl import forward_kl
from kdlight.losses.labels import check_mask


def attention_relation(
    student: Tensor,
    teacher: Tensor,
    *,
    heads: int = 12,
    kind: str = "kl",
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    r"""Distance between the relations of tokens per position, (B, T, D), (B, T, D') -> (B, T).

    .. math:: \frac1A \sum_a \operatorname{KL}(R^t_a \| R^s_a), \qquad
              R_a = \operatorname{softmax}\left(\frac{X_a X_a^\top}{\sqrt{d}}\right)

    X holds the queries, or the keys, or the values of one layer, split into A relation heads of
    d = D / A columns each: the published loss is the sum of the three, each a mean over valid
    positions. The heads of the relation are not those of the model, so student and teacher may
    differ in width and in number of heads. Attention maps are not needed, which makes this loss
    independent of the attention kernel. Projections are compared as they leave their linear layer,
    before a rotary position embedding. Those of grouped-query attention are narrower, and need not
    be repeated.

    Args:
        student: Projections of the student, all heads of the model side by side.
        teacher: Projections of the teacher at the same positions.
        heads: Number A of relation heads, which divides both widths.
        kind: ``"kl"`` as above (MiniLMv2); ``"mse"``, the mean of squared differences between the
            scores before the softmax, over heads and keys (the code of AutoDistil).
        mask: True at tokens, (B, T); None means all. Padding is no key of any position, and the
            value of a padding position is 0. Its features change nothing, also if they are NaN.
        causal: Let each position attend to itself and earlier ones only.

    Returns:
        One value per query position, in float32 or wider.

    Raises:
        ValueError: If the shapes do not fit, or ``heads`` does not divide both widths.
        TypeError: If the features are not floating point, or the mask is.

    Wang et al., MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing
    Pretrained Transformers, 2021, section 3.1; Xu et al., Few-shot Task-agnostic Neural
    Architecture Search for Distilling Large Language Models, 2022 (AutoDistil).

    >>> student, teacher = torch.eye(2)[None], torch.zeros(1, 2, 4)
    >>> attention_relation(student, teacher, heads=1)
    tensor([[0.0612, 0.0612]])
    """
    check_choice("kind", kind, ("kl", "mse"))
    check_integer("heads", heads, 1)
    student, teacher = feature_pair(student, teacher)
    _check_shapes(student, teacher, heads, mask)
    if not student.numel():
        return student.sum(-1) + teacher.sum(-1)
    allowed = _allowed_keys(student, mask, causal)
    ours, theirs = (_scores(each, heads, mask) for each in (student, teacher))
    if kind == "mse":
        values = _mean_squares(ours, theirs, allowed)
    else:
        if allowed is not None:
            ours, theirs = (each.masked_fill(~allowed, -torch.inf) for each in (ours, theirs))
        values = forward_kl(ours, theirs)
    values = values.mean(1)
    return values if mask is None else values.masked_fill(mask == 0, 0.0)


def _mean_squares(ours: Tensor, theirs: Tensor, allowed: Tensor | None) -> Tensor:
    """Mean squared difference of scores over allowed keys, (B, A, T, T) -> (B, A, T)."""
    squares = (ours - theirs).square()
    if allowed is None:
        return squares.mean(-1)
    return squares.masked_fill(~allowed, 0.0).sum(-1) / allowed.sum(-1)


def _scores(features: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Scaled inner products of positions within each head, (B, T, D) -> (B, A, T, T)."""
    if mask is not None:  # 0 * NaN would reach the other positions in the backward pass
        features = features.masked_fill((mask == 0).unsqueeze(-1), 0.0)
    split = features.unflatten(-1, (heads, -1)).transpose(1, 2)
    return inner_products(split / split.shape[-1] ** 0.25)


def _allowed_keys(features: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """The keys of each query, (B or 1, 1, T, T), at least one for each; None means all."""
    positions = features.shape[1]
    allowed = None
    if causal:
        ones = torch.ones(positions, positions, dtype=torch.bool, device=features.device)
        allowed = ones.tril()[None, None]
    if mask is not None:
        tokens = mask != 0
        keys = tokens[:, None, None, :]
        allowed = keys if allowed is None else allowed & keys
        allowed = allowed | ~tokens[:, None, :, None]  # padding needs a key, though no value
    return allowed


def _check_shapes(student: Tensor, teacher: Tensor, heads: int, mask: Tensor | None) -> None:
    for name, features in (("student", student), ("teacher", teacher)):
        if features.dim() != 3:
            raise ValueError(
                f"{name} features must be (B, T, D), got shape {tuple(features.shape)}; flatten "
                "the heads of the model"
            )
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            "student and teacher features (B, T, D) must have the same positions, got shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    widths = student.shape[-1], teacher.shape[-1]
    if 0 in widths or any(width % heads for width in widths):
        raise ValueError(
            f"heads must divide both widths, {widths[0]} of the student and {widths[1]} of the "
            f"teacher, got {heads}; choose a divisor of {gcd(*widths)}. Keys and values of "
            "grouped-query attention are narrower than queries, and may need fewer relation heads; "
            "they need not be repeated"
        )
    check_mask("mask", mask)
    if mask is not None and mask.shape != student.shape[:2]:
        raise ValueError(
            f"mask must have one entry per position, {tuple(student.shape[:2])}, got "
            f"{tuple(mask.shape)}"
        )
