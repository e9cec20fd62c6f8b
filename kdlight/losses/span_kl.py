"""DAC-KL's span loss: relations between neighbouring predictions within a span."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.checks import check_choice
from kdlight.losses.kl import kl
from kdlight.losses.labels import check_mask
from kdlight.losses.log_space import log_probs, probs, shifted, tempered_pair

Distance: TypeAlias = Literal["kl", "mse"]
DISTANCES = ("kl", "mse")


def span_kl(
    student: Tensor,
    teacher: Tensor,
    span_ids: Tensor,
    *,
    distance: Distance = "kl",
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    r"""Span consistency, a mean over pairs of neighbours, (B, T, V), (B, T, V), (B, T) -> ().

    .. math:: \operatorname{KL}\!\left(\frac{p_i p_{i+1}}{\sum_v p_{i,v} p_{i+1,v}} \,\middle\|\,
              \frac{q_i q_{i+1}}{\sum_v q_{i,v} q_{i+1,v}}\right)
              \quad\text{over } (i, i + 1) \text{ in one span}

    Use it in addition to a loss per token. The product of the probabilities of two neighbours,
    which measures what both predictions have in common, should be the same in student and teacher.
    The product is published, the distance is not. ``"kl"`` compares the products, normalized to sum
    to 1, and is well behaved where they are tiny. ``"mse"`` sums the squared differences of the
    products themselves: it is the most literal reading, and nearly 0 where neighbours have little
    in common.

    Args:
        student: Logits of q.
        teacher: Logits of p; takes no gradient.
        span_ids: Aligned integers: the number of the span, or -1 outside all spans.
        distance: ``"kl"`` or ``"mse"``.
        mask: True at valid positions; a pair counts if both positions are valid. None means all.
        temperature: Divides both logits. The factor T^2 is not included.

    Returns:
        The mean, in float32 or wider; 0, with a graph, if there are no pairs.

    Raises:
        ValueError: If the shapes do not fit, or distance is neither.
        TypeError: If the logits are not floating point, or span_ids not integers.

    Multi-Granularity Semantic Revision for Large Language Model Distillation, 2024, eq. (10) (the
    product).

    >>> student, teacher = torch.zeros(1, 3, 4), torch.eye(3, 4)[None]
    >>> span_kl(student, teacher, torch.tensor([[0, 0, -1]]))
    tensor(0.1109)
    """
    first = pairs(span_ids, student.shape[:-1], mask)
    flat = [logits.reshape(-1, logits.shape[-1]) for logits in (student, teacher)]
    joined = [torch.cat([logits[first], logits[first + 1]], -1) for logits in flat]
    values = pair_values(*joined, distance=distance, temperature=temperature)
    return values.sum() / max(len(first), 1)


def pairs(span_ids: Tensor, positions: torch.Size, mask: Tensor | None = None) -> Tensor:
    """First positions of all pairs, as indices of flattened positions, (B, T), (B, T) -> (n,).

    Args:
        span_ids: See `span_kl`.
        positions: The shape that ``span_ids`` must have.
        mask: See `span_kl`.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If span_ids are not integers.

    >>> pairs(torch.tensor([[0, 0, 0, 1], [1, -1, -1, 2]]), torch.Size([2, 4]))
    tensor([0, 1])
    """
    if span_ids.is_floating_point() or span_ids.dtype == torch.bool:
        raise TypeError(f"span_ids must be integers, one number per span, got {span_ids.dtype}")
    if span_ids.shape != positions or not positions:
        raise ValueError(
            f"span_ids {tuple(span_ids.shape)} do not fit the sequences, whose positions are"
            f" {tuple(positions)}: pass one id per position, -1 outside all spans, aligned like"
            " labels"
        )
    check_mask("mask", mask)
    if mask is not None:
        span_ids = span_ids.masked_fill(mask == 0, -1)
    starts = torch.zeros_like(span_ids, dtype=torch.bool)
    starts[..., :-1] = (span_ids[..., :-1] == span_ids[..., 1:]) & (span_ids[..., :-1] >= 0)
    return starts.flatten().nonzero().squeeze(-1)


def pair_values(
    student: Tensor, teacher: Tensor, *, distance: Distance = "kl", temperature: float = 1.0
) -> Tensor:
    """Distance of each pair, whose logits are concatenated, (n, 2V), (n, 2V) -> (n,).

    Raises:
        ValueError: If distance is neither ``"kl"`` nor ``"mse"``.
    """
    check_choice("distance", distance, DISTANCES)
    student, teacher = tempered_pair(student, teacher.detach(), temperature)
    a, b, c, d = (shifted(each) for pair in (student, teacher) for each in pair.chunk(2, -1))
    if distance == "mse":
        return (probs(a) * probs(b) - probs(c) * probs(d)).square().sum(-1)
    # the sums are the logarithms of the products, up to constants that the softmax removes
    return kl(log_probs(c + d), log_probs(a + b))
