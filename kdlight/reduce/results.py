"""The results of ranks that evaluate a share of the rows each, added up in one collective."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from kdlight.checks import can_read
from kdlight.reduce.exchange import Shares
from kdlight.sources.weight_sums import WeightSums

NUMBERS = 64
"""Further values that the collective has room for: a rank that fails does not know their number."""


class Result(NamedTuple):
    """What a rank computed, ``()`` or ``(m,)`` with a graph, and what all of them did, without."""

    own: Tensor
    value: Tensor
    parts: dict[str, Tensor]


def result_of_ranks(
    evaluate: Callable[[], tuple[Tensor, dict[str, Tensor]]],
    shares: Shares,
    group: dist.ProcessGroup,
    *,
    adds_up: bool,
    sums: WeightSums | None,
    device: torch.device,
) -> Result:
    """Evaluate the rows of this rank, and return the results of all ranks on each of them.

    A rank whose rows raise an error still takes part in the collective. It raises the error after
    it, and the other ranks one that names the rank, where they can read that without waiting for a
    device; elsewhere their results are NaN.

    Args:
        evaluate: evaluates the rows of this rank: to a sum, or to a value for each of them; and to
            further values by name, whose names are the same on all ranks.
        shares: the rows of each rank.
        group: the ranks.
        adds_up: whether the result is a sum; otherwise it has one value for each row.
        sums: what ``evaluate`` adds weights of several teachers to, which will have those of the
            rows of all ranks; or None.
        device: device of the results.

    Raises:
        RuntimeError: another rank failed.
    """
    total, count = (None, 0) if sums is None else (sums.total, sums.count)
    flags = torch.zeros(shares.ranks, dtype=torch.float64, device=device)
    values = flags.new_zeros(1 if adds_up else shares.rows)
    place = slice(None) if adds_up else shares.own
    named: dict[str, Tensor] = {}
    added: Tensor | None = None
    failed: Exception | None = None
    try:
        own, parts = evaluate()
        values[place] = own.detach().to(values)
        named = {name: torch.as_tensor(part) for name, part in parts.items()}
        numbers = [*named.values()]
        if sums is not None and sums.total is not None:
            added = sums.total if total is None else sums.total - total
            # the number of positions that other ranks evaluated is known on the device only
            numbers += [*added.unbind(), torch.as_tensor(sums.count - count)]
        further = torch.stack([each.to(values) for each in numbers]) if numbers else values[:0]
    except Exception as error:
        failed, own = error, values
        flags[shares.rank], values[place] = 1, nan
        further = flags.new_full((NUMBERS,), nan)
    room = torch.cat([further[:NUMBERS], flags.new_zeros(max(0, NUMBERS - len(further)))])
    together = torch.cat([flags, values, room])
    dist.all_reduce(together, group=group)
    flags, values, room = together.split([len(flags), len(values), NUMBERS])
    if failed is not None:
        raise failed
    _check_others(flags)
    if len(further) > NUMBERS:
        rest = further[NUMBERS:].clone()
        dist.all_reduce(rest, group=group)
        room = torch.cat([room, rest])
    if sums is not None and added is not None:
        *weights, positions = room[len(named) : len(further)].unbind()
        change = torch.stack(weights).to(added)
        sums.total = change if total is None else total + change
        sums.count = count + positions
    parts = {k: new.to(old.dtype) for (k, old), new in zip(named.items(), room, strict=False)}
    return Result(own, (values[0] if adds_up else values).to(own.dtype), parts)


def _check_others(flags: Tensor) -> None:
    if can_read(flags) and flags.any():
        ranks = ", ".join(map(str, flags.nonzero().flatten().tolist()))
        raise RuntimeError(
            f"rank {ranks} of the {len(flags)} ranks that divide the rows of this loss failed on"
            " its rows; the error that it raised tells why"
        )
