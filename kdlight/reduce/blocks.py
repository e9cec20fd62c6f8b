"""The loop over chunks and blocks, which makes the gradient while it makes the value.

The loss is a sum over rows with weights that are known before, so the slopes of a block are final
as soon as its values are: they take the place of its logits, and go back through the head before
the next chunk is made. No logits are kept for the backward pass, and none are made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kdlight.logits import Dense, LogitsSource, Projected
from kdlight.reduce.chunking import Chunking, keep_allocations, spans
from kdlight.reduce.loss import split_rows
from kdlight.reduce.makers import Maker, StudentMaker, student_maker, teacher_maker
from kdlight.reduce.slopes import Rule, Slopes, by_compiler, slopes

Makers: TypeAlias = "tuple[StudentMaker, Maker | None]"


@dataclass(frozen=True)
class Job:
    """What is to be evaluated; labels and weights are those of the rows that count, packed.

    Attributes:
        index: where the rows stand among the flattened positions; None if all of them count.
        rows: their number.
    """

    rule: Rule
    student: Dense | Projected
    teacher: LogitsSource | None
    labels: Tensor | None
    weights: Tensor | None
    index: Tensor | None
    rows: int
    chunking: Chunking

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return given(self.student).device

    def makers(self) -> Makers:
        """The makers of student and teacher."""
        tokens, _ = self.sizes()
        student = student_maker(self.student, self.index, tokens)
        return student, teacher_maker(self.teacher, self.index, tokens, self.student)

    def sizes(self) -> tuple[int, int]:
        """Rows of a chunk, and of a block."""
        return self.chunking.sizes(self.rows, self.student.shape[-1], given(self.student))


def given(source: Dense | Projected) -> Tensor:
    """What logits are made of: it tells device and type of the work."""
    return source.hidden if isinstance(source, Projected) else source.tensor


@dataclass
class Outcome:
    """Values ``(n,)``, sums of further values by name, and the gradients of what was wanted."""

    values: Tensor
    parts: dict[str, Tensor]
    gradients: list[Tensor | None]


def evaluate(job: Job, makers: Makers, needed: Sequence[bool] = ()) -> Outcome:
    """Run the loop.

    Args:
        job: what is to be evaluated.
        makers: those of the job.
        needed: which inputs of the student's maker, and then which parameters of the rule, take a
            gradient.
    """
    with torch.no_grad(), torch.autocast(job.device.type, enabled=False):
        return _evaluate(job, *makers, needed)


def _evaluate(
    job: Job, student: StudentMaker, teacher: Maker | None, needed: Sequence[bool]
) -> Outcome:
    keep_allocations()
    backward = any(needed)
    if backward:
        student.want(needed[: len(student.inputs)])
    tokens, size = job.sizes()
    values: list[Tensor] = []
    parts: dict[str, Tensor] = {}
    own = [torch.zeros_like(parameter) for parameter in job.rule.parameters]
    for chunk in spans(job.rows, tokens):
        student.begin(chunk)
        if teacher is not None:
            teacher.begin(chunk)
        for part in spans(chunk.stop - chunk.start, size):
            logits = student.block(part)
            beside = None if teacher is None else teacher.block(part, logits)
            rows = slice(chunk.start + part.start, chunk.start + part.stop)
            whole = part.stop - part.start == size  # a rest would be compiled once more
            found = _slopes(job, logits, beside, rows, backward, compiled=whole)
            if backward:
                student.put(part, found.student)
            values.append(found.values)
            for name, value in found.extras.items():
                parts[name] = parts.get(name, 0.0) + value.sum()
            for total, gradient in zip(own, found.parameters, strict=False):
                if gradient is not None:
                    total.add_(gradient)
        if backward:
            student.finish(chunk)
    gradients = [*student.gradients(), *own] if backward else []
    return Outcome(torch.cat(values), parts, gradients)


def _slopes(
    job: Job, student: Tensor, teacher: Any, rows: slice, backward: bool, *, compiled: bool
) -> Slopes:
    labels = None if job.labels is None else job.labels[rows]
    weights = None if job.weights is None else job.weights[rows]
    if not backward:
        values, extras = split_rows(job.rule.values(student, teacher, labels))
        return Slopes(values, student, extras, ())
    way = by_compiler if job.chunking.compiled and compiled else slopes
    return way(job.rule, student, teacher, labels, weights)


class Total(Function):
    """The weighted sum of the rows, with gradients that were made beside it."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, job: Job, makers: Makers, parts: dict[str, Tensor], *inputs: Tensor
    ) -> Tensor:
        outcome = evaluate(job, makers, ctx.needs_input_grad[3:])
        ctx.gradients = outcome.gradients
        parts.update(outcome.parts)
        return weighted_sum(outcome.values, job.weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        if ctx.gradients is None:
            raise RuntimeError(
                "the gradients of this loss were made with its value, and have been used up; call"
                " backward() once, or evaluate with chunked=False to go back several times"
            )
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, None, *(None if g is None else g.mul_(grad) for g in gradients))


def weighted_sum(values: Tensor, weights: Tensor | None) -> Tensor:
    """The sum of ``values`` ``(n,)``, each times its weight."""
    return (values if weights is None else values * weights).sum()


class Values(Function):
    """The values of the rows. Their weights come with the backward pass, which makes them again."""

    @staticmethod
    def forward(ctx: Any, job: Job, *inputs: Tensor) -> Tensor:  # noqa: D102
        ctx.job = job
        return evaluate(job, job.makers()).values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        job = replace(ctx.job, weights=grad)
        with torch.enable_grad():  # makers look at what takes a gradient
            outcome = evaluate(job, job.makers(), ctx.needs_input_grad[1:])
        return (None, *outcome.gradients)


def total_of(job: Job) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the rows with a graph, and sums of further values."""
    makers = job.makers()
    if not torch.is_grad_enabled():  # a Function is not told
        outcome = evaluate(job, makers)
        return weighted_sum(outcome.values, job.weights), outcome.parts
    parts: dict[str, Tensor] = {}
    return Total.apply(job, makers, parts, *makers[0].inputs, *job.rule.parameters), parts


def values_of(job: Job) -> Tensor:
    """The values of the rows ``(n,)``, with a graph."""
    return Values.apply(job, *job.makers()[0].inputs, *job.rule.parameters)
