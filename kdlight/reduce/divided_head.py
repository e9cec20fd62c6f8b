"""A head whose vocabulary is divided among ranks, each of which evaluates a share of the rows.

For a chunk of the rows of all ranks, each rank computes its columns. An exchange, rows for columns,
gives each rank whole rows of its share, on which it evaluates the loss. Their gradients are
exchanged back. So a rank holds its part of the head and of the head's gradient only, and neither is
sent anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from kdlight.reduce.exchange import Shares, exchange_rows
from kdlight.reduce.heads import product_dtype
from kdlight.reduce.plan import spans
from kdlight.sources import LogitsSource, Projected


def has_divided_head(student: LogitsSource, group: dist.ProcessGroup | None) -> bool:
    """Return whether the student's head is linear, and its vocabulary divided among ``group``.

    Hooks of the head may be those with which tensor parallelism gathers its output.
    """
    head = getattr(student, "head", None)
    if group is None or type(head) is not nn.Linear:
        return False
    hooks = [*head._forward_hooks.values(), *head._forward_pre_hooks.values()]
    ranks = dist.get_process_group_ranks(group)
    return (
        all(_is_divided(parameter, ranks) for parameter in head.parameters())
        and all(hook.__module__.startswith("torch.distributed.tensor") for hook in hooks)
        and not torch.compiler.is_compiling()
    )


def _is_divided(parameter: Tensor, ranks: list[int]) -> bool:
    return (
        isinstance(parameter, DTensor)
        and parameter.placements == (Shard(0),)
        and parameter.device_mesh.mesh.tolist() == ranks
    )


@dataclass(eq=False)
class DividedHead(Projected):
    """All valid hidden states, ``(n, D)``, and this rank's part of a head, ``(V_r, D)``.

    Attributes:
        weight: rows of the weight that are this rank's.
        bias: its entries of the bias, or None.
        shares: the rows whose losses each rank evaluates.
        group: the ranks.
        running: the provider that was created last.
    """

    weight: Tensor | None = None
    bias: Tensor | None = None
    shares: Shares | None = None
    group: Any = None
    running: DividedHeadChunks | None = None

    def chunks(self, tokens: int) -> DividedHeadChunks:
        """Return the provider of the logits of this rank's rows, ``tokens`` at a time."""
        self.running = DividedHeadChunks(self, tokens)
        return self.running

    def finish(self) -> None:
        """After an error on the rows of this rank, take part in the exchanges that are left."""
        if self.running is not None:
            self.running.finish()


class DividedHeadChunks:
    """Provides whole rows of logits; every rank must ask for equally many chunks."""

    def __init__(self, source: DividedHead, tokens: int) -> None:
        assert source.weight is not None
        assert source.shares is not None
        self.group, self.shares = source.group, source.shares
        self.inputs: tuple[Tensor, ...] = (source.hidden, source.weight)
        if source.bias is not None:
            self.inputs += (source.bias,)
        dtype = product_dtype(source.hidden)
        self.hidden, self.weight, *bias = (each.detach().to(dtype) for each in self.inputs)
        self.bias = bias[0] if bias else None
        # gradients in float16 would underflow
        self.grad_dtype = torch.float32 if dtype == torch.float16 else dtype
        vocabulary = source.shape[-1]
        self.columns = columns_of_ranks(vocabulary, self.shares.ranks)
        most = max(self.shares.counts)
        self.chunks_left = spans(most, tokens)
        self.logits = self.buffer = self.hidden.new_empty(min(tokens, most), vocabulary)
        self.grad = self.buffer
        self.peers: list[slice] = []
        self.sums: list[Tensor | None] = []
        self.open: slice | None = None  # rows of the chunk whose gradient is awaited
        self.is_exchanging = False

    def begin(self, rows: slice) -> None:
        """Compute the logits of a chunk, together with all ranks."""
        self.is_exchanging = True
        chunk = self.chunks_left.pop(0)
        self.peers = [
            slice(own.start + min(chunk.start, size), own.start + min(chunk.stop, size))
            for own, size in zip(self.shares.slices, self.shares.counts, strict=True)
        ]
        hidden, weight = self._hidden(), self.weight.t()
        columns = hidden @ weight if self.bias is None else torch.addmm(self.bias, hidden, weight)
        own = rows.stop - rows.start
        entries = [own * width for width in self.columns]
        received = exchange_rows(
            columns.view(-1, 1),
            [size * len(self.weight) for size in self._sizes()],
            entries,
            self.group,
        )
        del columns  # before the rows are put together
        blocks = received.split(entries)
        self.logits = self.buffer[:own]
        parts = [each.view(own, width) for each, width in zip(blocks, self.columns, strict=True)]
        torch.cat(parts, 1, out=self.logits)
        self.grad = self.logits
        if self.grad_dtype != self.logits.dtype and self.sums:
            self.grad = torch.empty_like(self.logits, dtype=self.grad_dtype)
        self.open, self.is_exchanging = rows, False

    def block(self, part: slice) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk."""
        return self.logits[part]

    def require_grad(self, needed: Sequence[bool]) -> None:
        """Allocate the gradients of some of the inputs; sums are in float32 or wider."""
        sums = torch.promote_types(self.weight.dtype, torch.float32)
        self.sums = [
            torch.zeros_like(each, dtype=sums, requires_grad=False) if need else None
            for each, need in zip(self.inputs, needed, strict=True)
        ]

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Take the gradient of a part, in place of its logits where the dtype is the same."""
        self.grad[part].copy_(grad)

    def backward(self, rows: slice) -> None:
        """Propagate the gradient of the chunk to all hidden states and this rank's columns."""
        self.is_exchanging = True
        own, sizes = rows.stop - rows.start, self._sizes()
        sent = self.grad.new_empty(self.grad.numel(), 1)
        entries = [own * width for width in self.columns]
        for block, part in zip(self.grad.split(self.columns, 1), sent.split(entries), strict=True):
            part.view(block.shape).copy_(block)
        received = exchange_rows(
            sent,
            entries,
            [size * len(self.weight) for size in sizes],
            self.group,
        )
        grad = received.view(sum(sizes), len(self.weight))
        d_hidden, d_weight, *d_bias = self.sums
        if d_hidden is not None:
            product = grad @ self.weight.to(grad.dtype)
            for each, part in zip(self.peers, product.split(sizes), strict=True):
                d_hidden[each] = part.to(d_hidden.dtype)
        if d_weight is not None:
            d_weight += grad.t() @ self._hidden().to(grad.dtype)
        if d_bias and d_bias[0] is not None:
            d_bias[0] += grad.sum(0, dtype=d_bias[0].dtype)
        self.open, self.is_exchanging = None, False

    def finish(self) -> None:
        """Take part in the exchanges that are left, unless it is one of them that failed."""
        if self.is_exchanging:
            return
        own = self.shares.counts[self.shares.rank]
        with torch.no_grad(), torch.autocast(self.hidden.device.type, enabled=False):
            if self.open is not None and self.sums:
                self.backward(self.open)
            for chunk in [*self.chunks_left]:
                rows = slice(min(chunk.start, own), min(chunk.stop, own))
                self.begin(rows)
                if self.sums:
                    self.backward(rows)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients: of hidden states a term of their sum over ranks."""
        return [
            None if d is None else d.to(x.dtype)
            for d, x in zip(self.sums, self.inputs, strict=True)
        ]

    def _sizes(self) -> list[int]:
        return [each.stop - each.start for each in self.peers]

    def _hidden(self) -> Tensor:
        return torch.cat([self.hidden[each] for each in self.peers])


def columns_of_ranks(vocabulary: int, ranks: int) -> list[int]:
    """Return the numbers of columns by rank, as DTensor divides them.

    Example:
        >>> columns_of_ranks(7, 4)
        [2, 2, 2, 1]
    """
    most = -(-vocabulary // ranks)
    return [min(max(vocabulary - rank * most, 0), most) for rank in range(ranks)]
