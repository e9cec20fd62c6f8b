"""Decide whether ranks divide the rows of a loss among them, and how the head is read then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from kdlight.reduce.divided_head import DividedHead, has_divided_head
from kdlight.reduce.exchange import group_size, sum_gradients
from kdlight.reduce.functions import TokenWork
from kdlight.reduce.plan import Chunked, Chunking, describe_plan
from kdlight.reduce.shares import DividedWork, Evaluate, is_divisible
from kdlight.sources import LogitsSource, Projected


def divide(
    work: TokenWork,
    evaluate: Evaluate,
    chunked: Chunked,
    group: dist.ProcessGroup | None,
    *,
    adds_up: bool,
) -> DividedWork | None:
    """Return the work as one of several ranks, or None for work that each rank does itself."""
    kind = _kind(work.student, work.teacher, chunked, group)
    parts = any(isinstance(parameter, DTensor) for parameter in work.rule.parameters)
    if kind is None or group is None or parts:  # parts of a rule read the same rows on all ranks
        return None
    divided = DividedWork(work, chunked, group, evaluate, adds_up)
    return divided if kind is DividedWork else DividedHeadWork.of(divided)


def describe_division(
    student: LogitsSource,
    teacher: LogitsSource | None,
    mask: Tensor | None,
    chunked: Chunked,
    group: dist.ProcessGroup | None,
) -> str:
    """Describe how `kdlight.reduce.token_sum` evaluates such logits on the ranks of ``group``.

    Example:
        >>> import torch
        >>> from kdlight import Dense
        >>> describe_division(Dense(torch.zeros(2, 5)), None, None, "auto", None)
        'logits of 2 positions x 5 entries are computed at once (10 entries are few)'
    """
    kind = _kind(student, teacher, chunked, group)
    if kind is DividedHeadWork:
        rows = prod(student.shape[:-1]) if mask is None else int(mask.sum())
        return (
            f"logits of {rows} positions x {student.shape[-1]} entries are computed in chunks by"
            f" {group_size(group)} ranks, which divide the vocabulary, and then the positions"
        )
    plan = describe_plan(student, teacher, mask, chunked)
    return plan if kind is None else f"{plan}; {group_size(group)} ranks divide the positions"


def _kind(
    student: LogitsSource,
    teacher: LogitsSource | None,
    chunked: Chunked,
    group: dist.ProcessGroup | None,
) -> type[DividedWork] | None:
    if not is_divisible(student, teacher, group):
        return None
    head = cast("nn.Module", cast("Projected", student).head)
    if not any(isinstance(parameter, DTensor) for parameter in head.parameters()):
        return DividedWork
    # with all logits at once, a divided head gathers them on each rank
    return DividedHeadWork if chunked is not False and has_divided_head(student, group) else None


@dataclass(frozen=True)
class DividedHeadWork(DividedWork):
    """Rows that ranks evaluate together, with a head whose vocabulary is divided among them."""

    weight: Tensor | None = None
    bias: Tensor | None = None

    @classmethod
    def of(cls, divided: DividedWork) -> DividedHeadWork:
        """Return the same work, which reads the parts of the head that this rank has."""
        head: Any = cast("Projected", divided.work.student).head
        bias = None if head.bias is None else head.bias.to_local()
        return cls(**vars(divided), weight=head.weight.to_local(), bias=bias)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Trainable parameters of this rank's part of the head, and of the rule."""
        return (*self._head(), *(p for p in self.work.rule.parameters if p.requires_grad))

    def _head(self) -> list[Tensor]:
        parts = [self.weight, self.bias]
        return [each for each in parts if each is not None and each.requires_grad]

    def own(self, hidden: Tensor) -> TokenWork:
        """Return the rows of this rank, whose logits all ranks compute."""
        work = super().own(hidden)
        selected = replace(cast("Projected", self.work.student), hidden=hidden)
        selected = selected.select(self.work.index)
        student = DividedHead(
            selected.hidden,
            selected.head,
            selected.transform,
            weight=self.weight,
            bias=self.bias,
            shares=self.shares,
            group=self.group,
        )
        return replace(work, student=student, longest=max(self.shares.counts))

    def evaluated(self, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Evaluate the rows of this rank, which computes those of other ranks even if it fails."""
        work = self.own(hidden)
        try:
            return self.evaluate(work)
        except Exception:
            cast("DividedHead", work.student).finish()
            raise

    def chunking(self, student: LogitsSource, rows: int) -> Chunking:
        """Return the sizes of chunks, in which such logits are always computed.

        By default the rows of all ranks are one chunk of the usual size.
        """
        given = self.chunked if isinstance(self.chunked, Chunking) else Chunking()
        if given.tokens is not None:
            return given
        longest = max(self.shares.counts)
        tokens, _ = given.sizes(longest, student.shape[-1], student.device, student.dtype)
        return replace(given, tokens=max(1, tokens // self.shares.ranks))

    def whole_gradients(
        self, hidden: Tensor | None, others: list[Tensor], outer: Tensor
    ) -> list[Tensor | None]:
        """Sum gradients over ranks, except those of the head, of which each rank has its part."""
        own = len(self._head())
        shared = others[own:] if hidden is None else [hidden, *others[own:]]
        summed = sum_gradients(shared, self.group, outer)
        first = None if hidden is None else summed.pop(0)
        return [first, *others[:own], *summed]
