"""Gather the rows of all data-parallel ranks, for losses over the global batch.

Collectives run in the forward pass only. Rows received from other ranks have no graph, the rows of
this rank keep theirs. Each rank computes the gradient of its own rows, and the strategy, which sums
or averages gradients over ranks, combines them. Collectives in the backward pass would have to run
in the same order as those of the strategy.

Every rank must call these functions equally often, with any number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from kdlight.reduce.exchange import gather_uneven
from kdlight.sources import Dense, LogitsSource, Projected


@dataclass(frozen=True)
class RankSizes:
    """The number of rows on each rank, and the index of this rank.

    Attributes:
        counts: rows by rank.
        rank: index of this rank within the group.
        group: the ranks that hold different data; None for all ranks.

    Example:
        >>> sizes = RankSizes((3, 0, 2), 2)
        >>> sizes.total, sizes.own
        (5, slice(3, 5, None))
    """

    counts: tuple[int, ...]
    rank: int
    group: dist.ProcessGroup | None = None

    @property
    def total(self) -> int:
        """Rows of all ranks."""
        return sum(self.counts)

    @property
    def own(self) -> slice:
        """The rows of this rank among those of all ranks."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])


def exchange_sizes(
    rows: Sequence[int],
    device: torch.device,
    *,
    distributed: bool = True,
    group: dist.ProcessGroup | None = None,
) -> list[RankSizes]:
    """Exchange the numbers of rows between ranks, for one tensor or several.

    Args:
        rows: numbers of rows on this rank.
        device: device for the collectives of this process.
        distributed: False for a loss of this rank alone.
        group: the ranks that hold different data; None for all ranks.

    Example:
        >>> exchange_sizes([3, 5], torch.device("cpu"))[1].counts
        (5,)
    """
    if not (distributed and dist.is_available() and dist.is_initialized()):
        return [RankSizes((count,), 0) for count in rows]
    own = torch.tensor(rows, device=device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(counts, own, group=group)
    rank = dist.get_rank(group)
    return [RankSizes(tuple(each), rank, group) for each in torch.stack(counts, 1).tolist()]


def gather_rows(rows: Tensor, sizes: RankSizes) -> Tensor:
    """Concatenate the rows of all ranks in the order of ranks, (n, V) -> (N, V).

    Only the rows of this rank have a graph.

    Args:
        rows: rows of this rank, of the same width and dtype on all ranks.
        sizes: numbers of rows, from `exchange_sizes`.

    Example:
        >>> gather_rows(torch.ones(2, 3), RankSizes((2,), 0)).shape  # a single rank
        torch.Size([2, 3])
    """
    if len(sizes.counts) == 1 or not sizes.total:
        return rows
    gathered = gather_uneven(rows, sizes.counts, sizes.group)
    gathered[sizes.rank] = rows
    return torch.cat(gathered)


def gather_source(source: LogitsSource, sizes: RankSizes) -> LogitsSource:
    """Gather a source of the rows of all ranks, (n, V) -> (N, V), without a graph.

    Of hidden states and a head only the states are sent: the head is the same on all ranks.

    Example:
        >>> gather_source(Dense(torch.ones(2, 3)), RankSizes((2,), 0)).shape
        torch.Size([2, 3])
    """
    rows = source.hidden if isinstance(source, Projected) else source.logits()
    gathered = gather_rows(rows.detach(), sizes)
    if isinstance(source, Projected):
        return replace(source, hidden=gathered)
    return Dense(gathered)
