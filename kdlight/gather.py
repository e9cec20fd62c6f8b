"""Rows of all data-parallel ranks, for losses that see the global batch at once.

Collectives run in the forward pass only. What other ranks sent comes without a graph, the rows of
this rank keep theirs: each rank goes back through its own rows, and the strategy, which adds up (or
averages) the gradients of ranks, makes the whole of them. A backward pass with collectives would
have to run in the same order as those of the strategy.

Every rank must call, as often as the others, with however few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from kdlight.logits import Dense, LogitsSource, Projected

_group: dist.ProcessGroup | None = None


def use_group(group: dist.ProcessGroup | None) -> None:
    """Gather among the ranks of ``group``, those that see different data; None for all ranks.

    Example:
        >>> use_group(None)  # all ranks
    """
    global _group
    _group = group


@dataclass(frozen=True)
class Shares:
    """How many rows each rank has, and which rank this is.

    Example:
        >>> shares = Shares((3, 0, 2), 2)
        >>> shares.total, shares.mine
        (5, slice(3, 5, None))
    """

    counts: tuple[int, ...]
    rank: int

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return sum(self.counts)

    @property
    def mine(self) -> slice:
        """Where the rows of this rank stand among all."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])


def share(rows: Sequence[int], device: torch.device, together: bool = True) -> list[Shares]:
    """Tell all ranks how many rows this one has, of one thing or several.

    Args:
        rows: numbers of rows.
        device: what collectives of this process run on.
        together: False asks no other rank, and this one has all there is.

    Example:
        >>> share([3, 5], torch.device("cpu"))[1].counts
        (5,)
    """
    if not (together and dist.is_available() and dist.is_initialized()):
        return [Shares((count,), 0) for count in rows]
    mine = torch.tensor(rows, device=device)
    counts = [torch.empty_like(mine) for _ in range(dist.get_world_size(_group))]
    dist.all_gather(counts, mine, group=_group)
    rank = dist.get_rank(_group)
    return [Shares(tuple(each), rank) for each in torch.stack(counts, 1).tolist()]


def gather_rows(rows: Tensor, shares: Shares) -> Tensor:
    """Rows of all ranks in the order of ranks, (n, V) -> (N, V).

    Only those of this rank have a graph.

    Args:
        rows: of this rank, of the same width and type on all ranks.
        shares: how many each rank has, from `share`.

    Example:
        >>> gather_rows(torch.ones(2, 3), Shares((2,), 0)).shape  # one rank has all there is
        torch.Size([2, 3])
    """
    most = max(shares.counts)
    if len(shares.counts) == 1 or not most:
        return rows
    padded = rows.detach().new_zeros(most, rows.shape[1])
    padded[: len(rows)] = rows.detach()
    sent = padded.view(torch.uint8)  # not every backend knows every type
    received = [torch.empty_like(sent) for _ in shares.counts]
    dist.all_gather(received, sent, group=_group)
    every = [
        each.view(rows.dtype)[:count] for each, count in zip(received, shares.counts, strict=True)
    ]
    every[shares.rank] = rows
    return torch.cat(every)


def gather_source(source: LogitsSource, shares: Shares) -> LogitsSource:
    """A source of the rows of all ranks, (n, V) -> (N, V), without a graph.

    Of hidden states and a head only the states travel: the head is the same on all ranks.

    Example:
        >>> gather_source(Dense(torch.ones(2, 3)), Shares((2,), 0)).shape
        torch.Size([2, 3])
    """
    every = gather_rows(tensor_of(source).detach(), shares)
    return replace(source, hidden=every) if isinstance(source, Projected) else Dense(every)


def tensor_of(source: LogitsSource) -> Tensor:
    """What a source is made of: hidden states, or logits.

    Example:
        >>> tensor_of(Projected(torch.ones(2, 4), torch.nn.Linear(4, 5))).shape
        torch.Size([2, 4])
    """
    return source.hidden if isinstance(source, Projected) else source.logits()
