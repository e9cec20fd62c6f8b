"""How neighbouring predictions within a span go together, in the student as in the teacher."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kdlight.losses.kl import kl
from kdlight.losses.log_space import log_probs, probs, tempered_pair

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
    r"""Span consistency, the mean over pairs of neighbours, (B, T, V), (B, T, V), (B, T) -> ().

    .. math:: \operatorname{KL}\!\left(\frac{p_i p_{i+1}}{\sum_v p_{i,v} p_{i+1,v}} \,\middle\|\,
              \frac{q_i q_{i+1}}{\sum_v q_{i,v} q_{i+1,v}}\right)
              \quad\text{over } (i, i + 1) \text{ in one span}

    Beside a loss on single tokens: what the two predictions of neighbours have in common, by the
    product of their probabilities, should be the same in the student. The product is known of the
    paper; the distance is not. ``"kl"`` compares the products made to sum to 1, which stays well
    behaved where they are tiny; ``"mse"`` sums the squared differences of the products themselves,
    the most literal reading, and is nearly 0 where neighbours have little in common.

    Args:
        student: Logits of q.
        teacher: Logits of p; takes no gradient.
        span_ids: Aligned integers, one number a span, -1 outside all of them.
        distance: ``"kl"`` or ``"mse"``.
        mask: True where a position counts; a pair counts if both do. None keeps all.
        temperature: Divides both logits. There is no factor T^2 inside.

    Raises:
        ValueError: If the shapes do not fit, or distance is neither.
        TypeError: If the logits are not floating point, or span_ids no integers.

    Multi-Granularity Semantic Revision for Large Language Model Distillation, 2024, eq. (10) (the
    product).

    >>> student, teacher = torch.zeros(1, 3, 4), torch.eye(3, 4)[None]
    >>> span_kl(student, teacher, torch.tensor([[0, 0, -1]]))
    tensor(0.1109)
    """
    first = pairs(span_ids, student.shape[:-1], mask)
    flat = [logits.reshape(-1, logits.shape[-1]) for logits in (student, teacher)]
    sides = [torch.cat([logits[first], logits[first + 1]], -1) for logits in flat]
    values = pair_values(*sides, distance=distance, temperature=temperature)
    return values.sum() / max(len(first), 1)


def pairs(span_ids: Tensor, positions: torch.Size, mask: Tensor | None = None) -> Tensor:
    """Where the pairs begin, among the flattened positions, (B, T), (B, T) -> (n,).

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If span_ids are no integers.

    >>> pairs(torch.tensor([[0, 0, 0, 1], [1, -1, -1, 2]]), torch.Size([2, 4]))
    tensor([0, 1])
    """
    if span_ids.is_floating_point() or span_ids.dtype == torch.bool:
        raise TypeError(f"span_ids must be integers, one number a span, got {span_ids.dtype}")
    if span_ids.shape != positions or not positions:
        raise ValueError(
            f"span_ids {tuple(span_ids.shape)} do not fit the sequences, whose positions are"
            f" {tuple(positions)}: one id each, -1 outside all spans, aligned like labels"
        )
    if mask is not None:
        span_ids = span_ids.masked_fill(~mask, -1)
    begins = torch.zeros_like(span_ids, dtype=torch.bool)
    begins[..., :-1] = (span_ids[..., :-1] == span_ids[..., 1:]) & (span_ids[..., :-1] >= 0)
    return begins.flatten().nonzero().squeeze(-1)


def pair_values(
    student: Tensor, teacher: Tensor, *, distance: Distance = "kl", temperature: float = 1.0
) -> Tensor:
    """The distance of each pair, whose logits stand side by side, (n, 2V), (n, 2V) -> (n,).

    Raises:
        ValueError: If distance is none.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance must be one of {DISTANCES}, got {distance!r}")
    student, teacher = tempered_pair(student, teacher.detach(), temperature)
    (a, b), (c, d) = student.chunk(2, -1), teacher.chunk(2, -1)
    if distance == "mse":
        return (probs(a) * probs(b) - probs(c) * probs(d)).square().sum(-1)
    # the logarithms of products, up to constants that a softmax does not see
    return kl(log_probs(c + d), log_probs(a + b))
