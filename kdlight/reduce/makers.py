"""Makers of logits: chunk by chunk forward, and back from the slopes of each chunk.

A maker is asked, in this order: ``begin`` a chunk of rows; hand out ``block`` after block of its
logits; take back the slopes of each block (``put``); ``finish`` the chunk. What it learned about its
``inputs`` stands in ``gradients`` at the end. A teacher's maker is only ever asked for the first two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from kdlight.logits import Dense, Index, LogitsSource, Projected

Transform = Callable[[Tensor], Tensor]

UNDERFLOW = 2.0**8
"""What slopes in float16 are raised by on their way through the products, so that few vanish."""


class Maker(Protocol):
    """Logits of rows, in chunks."""

    transform: Transform | None

    def begin(self, rows: slice) -> None:
        """Make the logits of a chunk."""

    def block(self, part: slice, beside: Tensor | None = None) -> Tensor:
        """Logits ``(m, V)`` of a part of the chunk, beside those of the student."""
        ...


class StudentMaker(Maker, Protocol):
    """A maker that finds the gradients of its inputs, too."""

    inputs: tuple[Tensor, ...]

    def want(self, needed: Sequence[bool]) -> None:
        """Prepare for the gradients of some of the inputs."""

    def put(self, part: slice, slopes: Tensor) -> None:
        """Take the slopes ``(m, V)`` of a part, which stand where its logits stood."""

    def finish(self, rows: slice) -> None:
        """Bring the slopes of the chunk back to the inputs."""

    def gradients(self) -> list[Tensor | None]:
        """One for each of the inputs, None where none was wanted."""
        ...


class Linear:
    """Hidden states and a `torch.nn.Linear`: products into one buffer, which the slopes reuse."""

    def __init__(self, source: Projected, tokens: int) -> None:
        hidden, head = source.hidden, source.head
        assert isinstance(head, nn.Linear)
        self.transform = source.transform
        self.inputs = (hidden, head.weight) if head.bias is None else (hidden, head.weight, head.bias)
        dtype = _matmul_dtype(hidden)
        # as autocast would: one copy of the head a call, in the type of the products
        self.hidden = hidden.detach().to(dtype)
        self.weight = head.weight.detach().to(dtype)
        self.bias = None if head.bias is None else head.bias.detach().to(dtype)
        self.buffer = hidden.new_empty(min(tokens, len(hidden)), len(self.weight), dtype=dtype)
        self.raised = UNDERFLOW if dtype == torch.float16 else 1.0
        self.d_hidden = self.d_weight = self.d_bias = self.product = None

    def begin(self, rows: slice) -> None:
        self.logits = self.buffer[: rows.stop - rows.start]
        if self.bias is None:
            torch.mm(self.hidden[rows], self.weight.t(), out=self.logits)
        else:
            torch.addmm(self.bias, self.hidden[rows], self.weight.t(), out=self.logits)

    def block(self, part: slice, beside: Tensor | None = None) -> Tensor:
        return self.logits[part]

    def want(self, needed: Sequence[bool]) -> None:
        sums = torch.promote_types(self.weight.dtype, torch.float32)
        if needed[0]:
            self.d_hidden = torch.empty_like(self.hidden)
        if needed[1]:
            self.d_weight = torch.zeros_like(self.weight, dtype=sums)
            if sums != self.weight.dtype:
                self.product = torch.empty_like(self.weight)
        if len(needed) > 2 and needed[2]:
            self.d_bias = self.weight.new_zeros(len(self.weight), dtype=sums)

    def put(self, part: slice, slopes: Tensor) -> None:
        self.logits[part].copy_(slopes if self.raised == 1 else slopes.mul_(self.raised))

    def finish(self, rows: slice) -> None:
        if self.d_hidden is not None:
            torch.mm(self.logits, self.weight, out=self.d_hidden[rows])
        if self.product is not None:  # half-precision products, summed wider
            self.d_weight.add_(torch.mm(self.logits.t(), self.hidden[rows], out=self.product))
        elif self.d_weight is not None:
            self.d_weight.addmm_(self.logits.t(), self.hidden[rows])
        if self.d_bias is not None:
            self.d_bias.add_(self.logits.sum(0, dtype=self.d_bias.dtype))

    def gradients(self) -> list[Tensor | None]:
        made = (self.d_hidden, self.d_weight, self.d_bias)
        return [
            None if d is None else _lowered(d, self.raised).to(x.dtype)
            for d, x in zip(made, self.inputs, strict=False)
        ]


class Head:
    """Hidden states and a head of any kind (an adapter, say), which autograd goes back through."""

    def __init__(self, source: Projected) -> None:
        assert isinstance(source.head, nn.Module)
        self.transform, self.head = source.transform, source.head
        self.parameters = [p for p in source.head.parameters() if p.requires_grad]
        self.inputs = (source.hidden, *self.parameters)
        self.hidden = source.hidden.detach()
        device = self.hidden.device.type
        # the driver switches autocast off for its own work; a head is the model's
        self.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        self.needed: Sequence[bool] = ()

    def begin(self, rows: slice) -> None:
        device, dtype, enabled = self.autocast
        self.leaf = self.hidden[rows].requires_grad_(bool(self.needed) and self.needed[0])
        with (
            torch.set_grad_enabled(any(self.needed)),
            torch.autocast(device, dtype=dtype, enabled=enabled),
        ):
            self.made = self.head(self.leaf)
        self.logits = self.made.detach()

    def block(self, part: slice, beside: Tensor | None = None) -> Tensor:
        return self.logits[part]

    def want(self, needed: Sequence[bool]) -> None:
        self.needed = needed
        self.sums = [
            torch.zeros_like(x) if need and number else None
            for number, (x, need) in enumerate(zip(self.inputs, needed, strict=True))
        ]
        if needed[0]:
            self.sums[0] = torch.empty_like(self.hidden)

    def put(self, part: slice, slopes: Tensor) -> None:
        if part.start == 0:
            self.slopes = torch.empty_like(self.logits)
        self.slopes[part].copy_(slopes)

    def finish(self, rows: slice) -> None:
        inputs = (self.leaf, *self.parameters)
        wanted = [number for number, need in enumerate(self.needed) if need]
        found = torch.autograd.grad(
            self.made, [inputs[number] for number in wanted], self.slopes, allow_unused=True
        )
        for number, gradient in zip(wanted, found, strict=True):
            if number == 0:
                self.sums[0][rows] = 0.0 if gradient is None else gradient
            elif gradient is not None:
                self.sums[number].add_(gradient)

    def gradients(self) -> list[Tensor | None]:
        return self.sums


class Stored:
    """Logits that exist: nothing is made, and the slopes are their gradient."""

    transform = None

    def __init__(self, source: Dense, index: Tensor | None) -> None:
        self.logits = source.select(None).tensor
        self.inputs = (self.logits,)
        self.index = index
        self.gradient: Tensor | None = None

    def begin(self, rows: slice) -> None:
        self.start = rows.start

    def block(self, part: slice, beside: Tensor | None = None) -> Tensor:
        return Dense(self.logits.detach()).select(self._where(part)).tensor

    def want(self, needed: Sequence[bool]) -> None:
        make = torch.empty_like if self.index is None else torch.zeros_like
        self.gradient = make(self.logits)

    def put(self, part: slice, slopes: Tensor) -> None:
        self.gradient[self._where(part)] = slopes.to(self.gradient.dtype)

    def finish(self, rows: slice) -> None:
        pass

    def gradients(self) -> list[Tensor | None]:
        return [self.gradient]

    def _where(self, part: slice) -> Tensor | slice:
        rows = slice(self.start + part.start, self.start + part.stop)
        return rows if self.index is None else self.index[rows]


class Asked:
    """A teacher of any other kind, asked for its logits one block at a time."""

    transform = None

    def __init__(self, source: LogitsSource, index: Tensor | None, device: torch.device) -> None:
        self.source, self.index, self.device = source, index, device

    def begin(self, rows: slice) -> None:
        self.start = rows.start

    def block(self, part: slice, beside: Tensor | None = None) -> Tensor:
        rows = slice(self.start + part.start, self.start + part.stop)
        return beside_student(self.source.select(self._where(rows)), beside)

    def _where(self, rows: slice) -> Tensor:
        if self.index is None:
            return torch.arange(rows.start, rows.stop, device=self.device)
        return self.index[rows]


def beside_student(source: LogitsSource, student: Tensor | None) -> Tensor:
    """Logits of a teacher, who may want to see the student's (`LogitsSource`)."""
    against = getattr(source, "against", None)
    return source.logits() if against is None else against(student)


def student_maker(source: LogitsSource, index: Tensor | None, tokens: int) -> StudentMaker:
    """The maker that a student's source asks for."""
    if isinstance(source, Dense):
        return Stored(source, index)
    assert isinstance(source, Projected)
    packed = source.select(index)
    return Linear(packed, tokens) if is_plain(packed.head) else Head(packed)


def teacher_maker(
    source: LogitsSource, index: Tensor | None, tokens: int, device: torch.device
) -> Maker:
    """The maker that a teacher's source asks for."""
    if isinstance(source, Projected):
        packed = source.select(index)
        return Linear(packed, tokens) if is_plain(packed.head) else Head(packed)
    return Stored(source, index) if isinstance(source, Dense) else Asked(source, index, device)


def is_plain(head: object) -> bool:
    """Whether calling ``head`` is a product with its weight and nothing else."""
    return (
        type(head) is nn.Linear
        and not (head._forward_hooks or head._forward_pre_hooks)
        and all(type(p) in (Tensor, nn.Parameter) for p in head.parameters())
    )


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _lowered(gradient: Tensor, raised: float) -> Tensor:
    return gradient if raised == 1 else gradient.div_(raised)
