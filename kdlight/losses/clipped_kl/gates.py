"""Gates: which of the teacher's tokens two thresholds keep, and how the gates move with them."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.likeliest import is_in_memory, likeliest

Rule: TypeAlias = Literal["mass", "quantile", "value"]
Gate: TypeAlias = Literal["hard", "soft", "ste"]
GATES = ("hard", "soft", "ste")
GROWTH = 8
"""Factor to the number of sorted tokens where these hold too little mass."""

FAR = 5.0
"""Distance from the upper threshold, in widths of a gate, from which gates hardly move with it."""


class Gates(NamedTuple):
    """The fraction of each token that counts, in [0, 1], (..., V).

    Attributes:
        gate: The gates.
        grads: Their gradients in the lower and in the upper threshold, (..., V) each; None for hard
            gates.
    """

    gate: Tensor
    grads: tuple[Tensor, Tensor] | None


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
    """Compute the gates of the teacher's tokens, (..., V), (..., 1), (..., 1) -> (..., V).

    Tokens of probability 0 are never kept. Forced tokens (labels, the most likely token) are always
    kept, and their gates have no gradient.

    Args:
        p: Probabilities of the teacher.
        lower: Lower threshold of each position.
        upper: Upper threshold of each position.
        rule: See `kdlight.losses.dac_kl`, as all that follow.
        gate: Kind of gate.
        gate_temperature: Width of a soft gate.
        labels: Labels that are always kept, (...).
        include_argmax: Always keep the most likely token.
        head: Number of tokens to sort first.
    """
    width = None if gate == "hard" else gate_temperature
    keep, coordinate = RULES[rule](p, lower, upper, head, width)
    forced = torch.zeros_like(keep)
    if include_argmax:
        forced.scatter_(-1, p.argmax(-1, keepdim=True), True)
    if labels is not None:
        index = labels.unsqueeze(-1)
        valid = index != IGNORE_INDEX
        forced |= torch.zeros_like(keep).scatter_(-1, index.masked_fill(~valid, 0), valid)
    possible = p != 0  # also where p is NaN, which must stay visible
    hard = ((keep | forced) & possible).to(p.dtype)
    if gate == "hard":
        return Gates(hard, None)
    above = ((coordinate - lower) / gate_temperature).sigmoid()
    below = ((upper - coordinate) / gate_temperature).sigmoid()
    soft = above * below
    scale = soft.masked_fill(~(possible & ~forced), 0.0) / gate_temperature
    value = torch.where(forced, 1.0, soft).masked_fill_(~possible, 0.0) if gate == "soft" else hard
    return Gates(value, (-scale * (1 - above), scale * (1 - below)))


def by_mass(
    p: Tensor, lower: Tensor, upper: Tensor, head: int | None, width: float | None = None
) -> tuple[Tensor, Tensor]:
    """Keep tokens between two cumulative masses, counted from the most likely token down.

    A token occupies the interval from the mass before it to that mass plus its own. It is kept if
    this interval meets the open interval between the thresholds. Its coordinate is the middle of
    the interval. With ``head``, only so many of the most likely tokens are sorted in rows where
    they hold enough mass, see `wanted_mass`, in other rows `GROWTH` times as many, and so on. All
    others share one coordinate behind them. The same tokens are kept.
    """
    wanted = wanted_mass(upper, width)
    if head is None or is_in_memory(p):
        before, middle = _places(p, wanted, head)
    else:
        before, middle = _places_unread(p, wanted, head)
    # with upper >= 1 keep all: rounding may let the cumulative sum reach 1 too early
    return ((before < upper) | (upper >= 1)) & (before + p > lower), middle


def _places(p: Tensor, wanted: Tensor, head: int | None) -> tuple[Tensor, Tensor]:
    width = p.shape[-1]
    if head is None or head >= width:
        return _coordinates(p, *likeliest(p, width))
    ordered, order = likeliest(p, head)
    before, middle = _coordinates(p, ordered, order)
    missing = wanted.squeeze(-1) - before.amax(-1)
    short = missing > 0
    if bool(short.any()):
        more = next_count(head, width, missing[short], ordered[..., -1][short])
        before[short], middle[short] = _places(p[short], wanted[short], more)
    return before, middle


def _places_unread(p: Tensor, wanted: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """The same without a question to the device: all tokens are sorted."""
    ordered, order = likeliest(p, p.shape[-1])
    up_to = ordered.cumsum(-1)
    width, sizes = p.shape[-1], [head]
    while sizes[-1] * GROWTH < width:
        sizes.append(sizes[-1] * GROWTH)
    size = torch.full_like(order[..., :1], width)
    for smaller in reversed([each for each in sizes if each < width]):
        size = torch.where(up_to[..., smaller - 1 : smaller] < wanted, size, smaller)
    own = torch.arange(width, device=p.device) < size
    total = up_to.gather(-1, size - 1)
    before = torch.where(own, up_to - ordered, total)
    middle = torch.where(own, up_to - ordered / 2, (total + 1) / 2)
    zeros = torch.zeros_like(p)
    return zeros.scatter(-1, order, before), zeros.scatter(-1, order, middle)


def wanted_mass(upper: Tensor, width: float | None) -> Tensor:
    """The mass that the sorted tokens of a row must hold, (...) -> (...).

    They must hold all that the upper threshold keeps. Where gates have a width, the gradient of the
    thresholds depends on the order of the tokens right behind it, too: all those must be sorted
    that are nearer than `FAR` widths, but for a rest that is not wider than a gate.

    Args:
        upper: Upper threshold. All tokens are kept at 1, whatever the rounding of their sum, so
            that the mass is infinite there.
        width: Width of a gate, None if it has none.

    >>> wanted_mass(torch.tensor([0.5, 0.9, 0.99]), 0.05)
    tensor([0.7500, 0.9500, 0.9900])
    """
    wanted = upper
    if width is not None:
        wanted = torch.minimum(upper + FAR * width, upper.clamp(min=1 - width))
    return wanted.masked_fill(upper >= 1, torch.inf)


def next_count(count: int, vocabulary: int, missing: Tensor, lowest: Tensor) -> int:
    """The next number of tokens to sort, of rows that all want more mass.

    It is `GROWTH` times the number so far. In rows that are nearly flat so many are not enough, as
    no other token is likelier than the last sorted one: then it is as often multiplied as needed.

    Args:
        count: Number of sorted tokens.
        vocabulary: Number of all tokens, which it does not exceed.
        missing: The mass that each row still wants, (n,), above 0.
        lowest: The least probability of a sorted token, (n,).

    >>> [next_count(4, 1000, torch.tensor([0.5]), torch.tensor([p])) for p in (0.1, 0.01, 0.0)]
    [32, 256, 1000]
    """
    least = count + float((missing / lowest).amin())
    count *= GROWTH
    while count < min(least, vocabulary):
        count *= GROWTH
    return min(count, vocabulary)


def _coordinates(p: Tensor, ordered: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The mass before each token and up to its middle; one coordinate for all unsorted tokens."""
    up_to = ordered.cumsum(-1)
    total = up_to[..., -1:]
    before = total.expand_as(p).scatter(-1, order, up_to - ordered)
    middle = ((total + 1) / 2).expand_as(p).scatter(-1, order, up_to - ordered / 2)
    return before, middle


def by_quantile(
    p: Tensor, lower: Tensor, upper: Tensor, head: int | None, width: float | None = None
) -> tuple[Tensor, Tensor]:
    """Keep tokens between two quantiles of the probabilities. The coordinate is the rank.

    On a vocabulary this rule is coarse: any upper threshold below 1 drops the most likely token.
    """
    ordered, order = torch.sort(p, dim=-1, stable=True)
    zeros = (p == 0).sum(-1, keepdim=True)
    last = (p.shape[-1] - zeros - 1).clamp(min=0)
    bounds = []
    for threshold in (lower, upper):
        rank = threshold.to(p.dtype) * last
        floor = rank.floor()
        indices = (zeros + floor.long(), zeros + rank.ceil().long())
        below, above = (ordered.gather(-1, index.clamp(max=p.shape[-1] - 1)) for index in indices)
        bounds.append(torch.lerp(below, above, rank - floor))
    ranks = torch.arange(p.shape[-1], device=p.device, dtype=p.dtype) - zeros
    ranks = (ranks / last.clamp(min=1)).expand_as(p)
    return (p >= bounds[0]) & (p <= bounds[1]), torch.empty_like(p).scatter_(-1, order, ranks)


def by_value(
    p: Tensor, lower: Tensor, upper: Tensor, head: int | None, width: float | None = None
) -> tuple[Tensor, Tensor]:
    """Keep probabilities between the thresholds. The coordinate is the probability."""
    return (p >= lower) & (p <= upper), p


RULES = {"mass": by_mass, "quantile": by_quantile, "value": by_value}
"""Rules ``(p, lower, upper, head, width) -> (mask of kept tokens, coordinates of all tokens)``."""
