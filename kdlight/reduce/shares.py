"""Rows divided among ranks that hold the same data, such as those of tensor parallelism.

Each rank evaluates its share with the whole output head. All collectives of the forward pass, and
all of the backward pass, are those of one autograd function, so that their order is the same on all
ranks, whatever the rows of one of them are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor
from torch.nn.modules.dropout import _DropoutNd

from kdlight.reduce.contents import tensors_in
from kdlight.reduce.exchange import Shares, gather_uneven, group_size, sum_gradients
from kdlight.reduce.functions import TokenWork
from kdlight.reduce.plan import Chunked, Chunking, plan
from kdlight.reduce.results import Result, result_of_ranks
from kdlight.sources import Detached, LogitsSource, Projected

Evaluate: TypeAlias = "Callable[[TokenWork], tuple[Tensor, dict[str, Tensor]]]"
"""From rows to a sum or to values ``(n,)``, with a graph, and sums of further values by name."""


def is_divisible(
    student: LogitsSource, teacher: LogitsSource | None, group: dist.ProcessGroup | None
) -> bool:
    """Return whether the rows of a loss are divided among the ranks of ``group``.

    They are where logits are hidden states and a head. The gradient of logits that exist is as wide
    as the vocabulary: to exchange it takes longer than to compute it on every rank. A head that
    drops units at random would use other random numbers on each rank, and what is random after it
    would no longer be the same on all of them. Teachers, and what follows the head, must be whole:
    ranks that have a part of a teacher compute its logits together, of the same rows.
    """
    return (
        group_size(group) > 1
        and isinstance(student, Projected)
        and isinstance(student.head, nn.Module)
        and not any(_drops(part) for part in student.head.modules())
        and not (torch.is_grad_enabled() and _requires_grad(teacher))
        and not _has_parts((teacher, student.hidden, student.transform))
        and not torch.compiler.is_compiling()
    )


def _drops(part: nn.Module) -> bool:
    return isinstance(part, _DropoutNd) and part.training and part.p > 0


def _requires_grad(teacher: LogitsSource | None) -> bool:
    return any(each.requires_grad for each in tensors_in(teacher, beside=Detached))


def _has_parts(value: Any) -> bool:
    """Return whether ranks have a part each of a tensor in a source, or of a module in it."""
    return any(isinstance(each, DTensor) for each in tensors_in(value))


@dataclass(frozen=True)
class DividedWork:
    """Rows that ranks evaluate together.

    Attributes:
        work: all rows, whose student is a `kdlight.Projected`.
        chunked: whether the logits of a share are computed in chunks.
        group: the ranks.
        evaluate: evaluates the rows of a rank.
        adds_up: whether the result is a sum; otherwise it has one value for each row.
    """

    work: TokenWork
    chunked: Chunked
    group: dist.ProcessGroup
    evaluate: Evaluate
    adds_up: bool

    @property
    def shares(self) -> Shares:
        """The rows of each rank."""
        ranks, rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        return Shares(self.work.rows, ranks, rank)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Trainable parameters of the head and of the rule, each of them once."""
        head = cast("nn.Module", cast("Projected", self.work.student).head)
        used = [*head.parameters(), *self.work.rule.parameters]
        return tuple({id(p): p for p in used if p.requires_grad}.values())

    def own(self, hidden: Tensor) -> TokenWork:
        """Return the rows of this rank, of a student with these hidden states."""
        work, rows = self.work, self.shares.own
        student = replace(cast("Projected", work.student), hidden=hidden)
        index = self._index(hidden.device)
        return replace(
            work,
            student=student,
            labels=None if work.labels is None else work.labels[rows],
            weights=None if work.weights is None else work.weights[rows],
            index=index,
            rows=len(index),
            chunking=self.chunking(student, len(index)),
        )

    def chunking(self, student: LogitsSource, rows: int) -> Chunking | None:
        """Return the sizes of chunks for ``rows`` of this rank; None for all logits at once."""
        return plan(student, self.work.teacher, rows, self.chunked)[0]

    def evaluated(self, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Evaluate the rows of this rank, of a student with these hidden states."""
        return self.evaluate(self.own(hidden))

    def together(self, hidden: Tensor) -> Result:
        """Evaluate the rows of this rank; return the result of all ranks."""
        teacher = self.work.teacher
        return result_of_ranks(
            partial(self.evaluated, hidden),
            self.shares,
            self.group,
            adds_up=self.adds_up,
            sums=None if teacher is None else teacher.weight_sums,
            device=hidden.device,
        )

    def whole_gradients(
        self, hidden: Tensor | None, others: list[Tensor], outer: Tensor
    ) -> list[Tensor | None]:
        """Return the gradients of all rows from those of each rank's.

        Args:
            hidden: gradient of the hidden states, ``(..., D)``, if it is needed.
            others: gradients of `parameters`.
            outer: the gradient that autograd started from.
        """
        first = None if hidden is None else self._gathered(hidden)
        return [first, *sum_gradients(others, self.group, outer)]

    def _gathered(self, gradient: Tensor) -> Tensor:
        rows = gradient.reshape(-1, gradient.shape[-1])
        own = rows.index_select(0, self._index(rows.device))
        valid = torch.cat(gather_uneven(own, self.shares.counts, self.group))
        if self.work.index is not None:
            valid = torch.zeros_like(rows).index_copy_(0, self.work.index, valid)
        return valid.view(gradient.shape)

    def _index(self, device: torch.device) -> Tensor:
        rows = self.shares.own
        if self.work.index is not None:
            return self.work.index[rows]
        return torch.arange(rows.start, rows.stop, device=device)


class _DividedRows(Function):
    """The result of all ranks; the gradients of a rank's rows are those of a graph of its own."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, divided: DividedWork, parts: dict[str, Tensor], hidden: Tensor, *inputs: Tensor
    ) -> Tensor:
        ctx.divided, ctx.inputs, ctx.shape = divided, inputs, hidden.shape
        ctx.leaf = hidden.detach().requires_grad_(ctx.needs_input_grad[2])
        with torch.enable_grad():
            result = divided.together(ctx.leaf)
        ctx.own = result.own
        parts.update(result.parts)
        return result.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        if ctx.own is None:
            raise RuntimeError(
                "the gradients of this loss, whose rows were divided among ranks, are used up; call"
                " backward() once"
            )
        divided, own = ctx.divided, ctx.own
        ctx.own = None
        hidden = [ctx.leaf] if ctx.needs_input_grad[2] else []
        outer = grad if divided.adds_up else grad[divided.shares.own]
        inputs = [*hidden, *ctx.inputs]
        found: Sequence[Tensor | None] = [None] * len(inputs)
        if own.requires_grad:  # else the loss is a constant on the rows of this rank
            found = torch.autograd.grad(own, inputs, outer, allow_unused=True)
        # a rank without a gradient takes part in the sum
        gradients = [
            torch.zeros_like(each) if gradient is None else gradient
            for gradient, each in zip(found, inputs, strict=True)
        ]
        first = gradients.pop(0) if hidden else None
        return (None, None, *divided.whole_gradients(first, gradients, outer))


def divided_rows(divided: DividedWork) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the result of all ranks with a graph, and sums of further values by name."""
    hidden = cast("Projected", divided.work.student).hidden
    if not torch.is_grad_enabled():  # a Function does not see this
        result = divided.together(hidden)
        return result.value, result.parts
    parts: dict[str, Tensor] = {}
    result = _DividedRows.apply(divided, parts, hidden, *divided.parameters)
    return result, parts  # type: ignore[return-value]
