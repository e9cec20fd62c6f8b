"""Rows divided among ranks and exchanged between them, of which each may have another number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Shares(NamedTuple):
    """Consecutive rows for each rank, whose numbers differ by 1 at most.

    Attributes:
        rows: number of rows of all ranks.
        ranks: number of ranks.
        rank: index of this rank.

    Example:
        >>> shares = Shares(7, ranks=3, rank=1)
        >>> shares.counts, shares.own
        ([2, 2, 3], slice(2, 4, None))
    """

    rows: int
    ranks: int
    rank: int

    @property
    def counts(self) -> list[int]:
        """Numbers of rows by rank."""
        return [each.stop - each.start for each in self.slices]

    @property
    def slices(self) -> list[slice]:
        """The rows of each rank."""
        bounds = [self.rows * rank // self.ranks for rank in range(self.ranks + 1)]
        return [slice(*each) for each in zip(bounds, bounds[1:], strict=False)]

    @property
    def own(self) -> slice:
        """The rows of this rank."""
        return self.slices[self.rank]


def group_size(group: dist.ProcessGroup | None) -> int:
    """Return the number of ranks that ``group`` divides rows among; 1 for None.

    Example:
        >>> group_size(None)
        1
    """
    return 1 if group is None else dist.get_world_size(group)


def gather_uneven(
    rows: Tensor, counts: Sequence[int], group: dist.ProcessGroup | None
) -> list[Tensor]:
    """Return the rows of each rank, ``(n, D) -> [(n_0, D), (n_1, D), ...]``, without a graph.

    Args:
        rows: rows of this rank, of the same width and dtype on all ranks.
        counts: numbers of rows by rank.
        group: the ranks; None for all.

    Example:
        >>> gather_uneven(torch.ones(2, 3), [2], None)[0].shape  # a single rank
        torch.Size([2, 3])
    """
    rows, most = rows.detach(), max(counts)
    if len(counts) == 1 or not most:
        return [rows for _ in counts]
    padded = rows.new_zeros(most, rows.shape[1])
    padded[: len(rows)] = rows
    sent = padded.view(torch.uint8)  # not every backend supports every dtype
    received = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(received, sent, group=group)
    return [each.view(rows.dtype)[:count] for each, count in zip(received, counts, strict=True)]


def exchange_rows(
    rows: Tensor, sent: Sequence[int], received: Sequence[int], group: dist.ProcessGroup
) -> Tensor:
    """Send consecutive rows ``(n, D)`` to each rank, and return those that ranks send, ``(m, D)``.

    Args:
        rows: of the same width and dtype on all ranks.
        sent: number of rows for each rank.
        received: number of rows from each rank.
        group: the ranks.
    """
    result = rows.new_empty(sum(received), rows.shape[1])
    dist.all_to_all_single(
        result.view(torch.uint8),
        rows.contiguous().view(torch.uint8),
        list(received),
        list(sent),
        group=group,
    )
    return result


def sum_gradients(
    gradients: Sequence[Tensor], group: dist.ProcessGroup, outer: Tensor
) -> list[Tensor]:
    """Sum each of ``gradients`` over ranks, in place where nothing else has its memory.

    Args:
        gradients: what autograd returned, of which several may be one tensor.
        group: the ranks.
        outer: the gradient that autograd started from, which a gradient may be as well.
    """
    taken, own = {outer.untyped_storage().data_ptr()}, []
    for gradient in gradients:
        place = gradient.untyped_storage().data_ptr()
        if place in taken or not gradient.is_contiguous():
            gradient = gradient.clone(memory_format=torch.contiguous_format)
        taken.add(place)
        own.append(gradient)
    for gradient in own:  # after all copies are made
        dist.all_reduce(gradient, group=group)
    return own
