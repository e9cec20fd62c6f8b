"""Which part of the teacher's distribution counts: thresholds, and gates that they move."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Rule: TypeAlias = Literal["mass", "quantile", "value"]
Gate: TypeAlias = Literal["hard", "soft", "ste"]
GATES = ("hard", "soft", "ste")
IGNORE = -100


class Gates(NamedTuple):
    """How much of each token counts, in [0, 1], and its slopes in both thresholds, (..., V)."""

    gate: Tensor
    slopes: tuple[Tensor, Tensor] | None


@torch.no_grad()
def clip_gates(
    p: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    rule: Rule,
    gate: Gate,
    gate_temperature: float,
    labels: Tensor | None,
    include_argmax: bool,
    head: int | None,
) -> Gates:
    """Gates of the teacher's tokens, (..., V), (..., 1), (..., 1) -> (..., V) thrice.

    Tokens of probability 0 are never kept, and forced ones always: what is forced does not move.
    """
    keep, at = RULES[rule](p, lower, upper, head)
    forced = torch.zeros_like(keep)
    if include_argmax:
        forced.scatter_(-1, p.argmax(-1, keepdim=True), True)
    if labels is not None:
        here = labels.unsqueeze(-1)
        counts = here != IGNORE
        forced |= torch.zeros_like(keep).scatter_(-1, here.masked_fill(~counts, 0), counts)
    possible = p != 0  # also where p is NaN, which must not be hidden
    hard = ((keep | forced) & possible).to(p.dtype)
    if gate == "hard":
        return Gates(hard, None)
    above = ((at - lower) / gate_temperature).sigmoid()
    below = ((upper - at) / gate_temperature).sigmoid()
    soft, free = above * below, possible & ~forced
    slope = soft.masked_fill(~free, 0.0) / gate_temperature
    value = torch.where(forced, 1.0, soft).masked_fill_(~possible, 0.0) if gate == "soft" else hard
    return Gates(value, (-slope * (1 - above), slope * (1 - below)))


def by_mass(p: Tensor, lower: Tensor, upper: Tensor, head: int | None) -> tuple[Tensor, Tensor]:
    """Keep what stands between two masses, counted from the likeliest token down.

    A token takes the interval of mass from what is before it to that and its own; it is kept if the
    interval meets the open one between the thresholds. It stands at the interval's middle. With
    ``head``, only so many of the likeliest are put into order where they hold enough mass, and the
    others share one place behind them: what is kept is the same.
    """
    if head is None or head >= p.shape[-1]:
        before, middle = _places(p, *torch.sort(p, dim=-1, descending=True, stable=True))
    else:
        before, middle = _places(p, *p.topk(head, -1))
        short = before.amax(-1) < upper.squeeze(-1)  # what was looked at does not hold enough
        if bool(short.any()):
            order = torch.sort(p[short], dim=-1, descending=True, stable=True)
            before[short], middle[short] = _places(p[short], *order)
    # a sum of many roundings may reach 1 too early
    return ((before < upper) | (upper >= 1)) & (before + p > lower), middle


def _places(p: Tensor, ordered: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The mass before each token, and up to its middle; one place for all that is not in order."""
    up_to = ordered.cumsum(-1)
    held = up_to[..., -1:]
    before = held.expand_as(p).scatter(-1, order, up_to - ordered)
    middle = ((held + 1) / 2).expand_as(p).scatter(-1, order, up_to - ordered / 2)
    return before, middle


def by_quantile(p: Tensor, lower: Tensor, upper: Tensor, head: int | None) -> tuple[Tensor, Tensor]:
    """Keep what stands between two quantiles of the probabilities; a token stands at its rank.

    On a vocabulary this is a blunt tool: any upper threshold below 1 leaves the likeliest out.
    """
    ordered, order = torch.sort(p, dim=-1, stable=True)
    outside = (p == 0).sum(-1, keepdim=True)
    last = (p.shape[-1] - outside - 1).clamp(min=0)
    bounds = []
    for threshold in (lower, upper):
        place = threshold.to(p.dtype) * last
        floor = place.floor()
        indices = (outside + floor.long(), outside + place.ceil().long())
        below, above = (ordered.gather(-1, index.clamp(max=p.shape[-1] - 1)) for index in indices)
        bounds.append(torch.lerp(below, above, place - floor))
    ranks = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype) - outside
    ranks = (ranks / last.clamp(min=1)).expand_as(p)
    return (p >= bounds[0]) & (p <= bounds[1]), torch.empty_like(p).scatter_(-1, order, ranks)


def by_value(p: Tensor, lower: Tensor, upper: Tensor, head: int | None) -> tuple[Tensor, Tensor]:
    """Keep probabilities between the thresholds; a token stands at its own."""
    return (p >= lower) & (p <= upper), p


RULES = {"mass": by_mass, "quantile": by_quantile, "value": by_value}
"""Rules ``(p, lower, upper, head) -> (what is kept, where each token stands)``."""
