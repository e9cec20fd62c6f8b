"""The loop over chunks and blocks, and the autograd functions that run it.

The loss is a weighted sum over rows whose weights are known in advance, so the gradient of a block
is final as soon as its values are. It overwrites the logits of the block and is propagated through
the head before the next chunk starts. No logits are kept for the backward pass, and none are
computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kdlight.losses.recompute import Recomputation
from kdlight.reduce.chunks import ChunkedLogits, TeacherChunks, student_chunks, teacher_chunks
from kdlight.reduce.compiled import compiled_gradients
from kdlight.reduce.gradients import TokenGradients, TokenRule, token_gradients
from kdlight.reduce.loss import split_values
from kdlight.reduce.plan import Chunking, keep_allocations, spans
from kdlight.sources import LogitsSource

Providers: TypeAlias = "tuple[ChunkedLogits, TeacherChunks | None]"


@dataclass(frozen=True)
class TokenWork:
    """A per-token loss and what it is evaluated on; labels and weights are those of valid rows.

    Attributes:
        index: the valid rows among the flattened positions; None if all are valid.
        rows: number of valid rows.
        chunking: sizes of chunks; None to compute all logits at once.
        longest: rows of the rank that has most of them, where ranks compute each chunk together.
    """

    rule: TokenRule
    student: LogitsSource
    teacher: LogitsSource | None
    labels: Tensor | None
    weights: Tensor | None
    index: Tensor | None
    rows: int
    chunking: Chunking | None
    longest: int = 0

    def weighted_sum(self, values: Tensor) -> Tensor:
        """Sum ``values`` ``(n,)``, each times its weight."""
        return (values if self.weights is None else values * self.weights).sum()

    def providers(self) -> Providers:
        """Create the providers of student and teacher."""
        tokens, _ = self.sizes()
        student: Any = self.student  # the plan made sure that it is Dense or Projected
        return (
            student_chunks(student, self.index, tokens),
            teacher_chunks(self.teacher, self.index, tokens, student),
        )

    def sizes(self) -> tuple[int, int]:
        """Return the rows of a chunk and of a block."""
        assert self.chunking is not None
        source = self.student
        rows = max(self.rows, self.longest)
        return self.chunking.sizes(rows, source.shape[-1], source.device, source.dtype)

    def chunks(self, tokens: int) -> list[slice]:
        """Return the rows of each chunk; the last ones are empty where other ranks have more."""
        return [
            slice(min(each.start, self.rows), min(each.stop, self.rows))
            for each in spans(max(self.rows, self.longest), tokens)
        ]

    def block_gradients(
        self, student: Tensor, teacher: Any, rows: slice, *, backward: bool
    ) -> TokenGradients:
        """Evaluate the rule on a block of logits as the head computes them."""
        # providers leave the transform of a source to the rule, which differentiates it
        rule = self.rule._replace(
            student_transform=getattr(self.student, "transform", None),
            teacher_transform=getattr(self.teacher, "transform", None),
        )
        labels = None if self.labels is None else self.labels[rows]
        weights = None if self.weights is None else self.weights[rows]
        if not backward:
            values, extras = split_values(rule.values(student, teacher, labels))
            return TokenGradients(values, student, extras, ())
        assert self.chunking is not None
        compiled = self.chunking.is_compiled_on(student.device)
        compute = compiled_gradients if compiled else token_gradients
        return compute(rule, student, teacher, labels, weights)


class Evaluation(NamedTuple):
    """Losses ``(n,)``, sums of further values by name, and the gradients that were needed."""

    values: Tensor
    parts: dict[str, Tensor]
    gradients: list[Tensor | None]


def evaluate(work: TokenWork, providers: Providers, needed: Sequence[bool] = ()) -> Evaluation:
    """Run the loop.

    Args:
        work: what is to be evaluated.
        providers: those of the work.
        needed: for the inputs of the student's provider and then for the parameters of the rule,
            whether a gradient is needed.
    """
    with torch.no_grad(), torch.autocast(work.student.device.type, enabled=False):
        return _evaluate(work, *providers, needed)


def _evaluate(
    work: TokenWork, student: ChunkedLogits, teacher: TeacherChunks | None, needed: Sequence[bool]
) -> Evaluation:
    keep_allocations()
    backward = any(needed)
    if backward:
        student.require_grad(needed[: len(student.inputs)])
    tokens, size = work.sizes()
    values: list[Tensor] = []
    parts: dict[str, Tensor] = {}
    own = [torch.zeros_like(parameter) for parameter in work.rule.parameters]
    for chunk in work.chunks(tokens):
        student.begin(chunk)
        if teacher is not None:
            teacher.begin(chunk)
        for part in spans(chunk.stop - chunk.start, size):
            logits = student.block(part)
            target = None if teacher is None else teacher.block(part, logits)
            rows = slice(chunk.start + part.start, chunk.start + part.stop)
            result = work.block_gradients(logits, target, rows, backward=backward)
            if backward:
                student.set_grad(part, result.student)
            values.append(result.values)
            for name, value in result.extras.items():
                parts[name] = parts.get(name, 0.0) + value.sum()
            for total, gradient in zip(own, result.parameters, strict=False):
                if gradient is not None:
                    total.add_(gradient)
        if backward:
            student.backward(chunk)
    gradients = [*student.gradients(), *own] if backward else []
    return Evaluation(torch.cat(values), parts, gradients)


class ChunkedSum(Function):
    """The weighted sum of the rows, with gradients computed in the forward pass."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, work: TokenWork, providers: Providers, parts: dict[str, Tensor], *inputs: Tensor
    ) -> Tensor:
        result = evaluate(work, providers, ctx.needs_input_grad[3:])
        ctx.gradients = result.gradients
        parts.update(result.parts)
        return work.weighted_sum(result.values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        if ctx.gradients is None:
            raise RuntimeError(
                "the gradients of this loss were computed with its value and are used up; call"
                " backward() once, or set chunked=False to call it several times"
            )
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, None, *(None if g is None else g.mul_(grad) for g in gradients))


class ChunkedValues(Function):
    """The values of the rows; the backward pass, which brings their weights, recomputes them."""

    @staticmethod
    def forward(ctx: Any, work: TokenWork, *inputs: Tensor) -> Tensor:  # noqa: D102
        ctx.work, ctx.run = work, Recomputation(work.student.device)
        return ctx.run(lambda: evaluate(work, work.providers())).values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        work = replace(ctx.work, weights=grad)
        with torch.enable_grad():  # providers read which tensors require a gradient
            result = ctx.run(lambda: evaluate(work, work.providers(), ctx.needs_input_grad[1:]))
        return (None, *result.gradients)


def chunked_sum(work: TokenWork) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of the rows with a graph, and sums of further values."""
    providers = work.providers()
    if not torch.is_grad_enabled():  # a Function does not see this
        result = evaluate(work, providers)
        return work.weighted_sum(result.values), result.parts
    parts: dict[str, Tensor] = {}
    inputs = (*providers[0].inputs, *work.rule.parameters)
    return ChunkedSum.apply(work, providers, parts, *inputs), parts  # type: ignore[return-value]


def chunked_values(work: TokenWork) -> Tensor:
    """Return the values of the rows ``(n,)``, with a graph."""
    inputs = (*work.providers()[0].inputs, *work.rule.parameters)
    return ChunkedValues.apply(work, *inputs)  # type: ignore[return-value]
