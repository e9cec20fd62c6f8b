"""Terms that look at several rows at once, evaluated with per-token terms on the same logits.

A distance between two sets of predictions needs all rows of a set, and no row of another. Where a
chunk holds whole sets, the products with the heads are computed once for both kinds of terms, and
the gradients of both are propagated together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.reduce.chunks import ChunkedLogits, TeacherChunks
from kdlight.reduce.functions import Providers, TokenWork, chunked_sum
from kdlight.reduce.gradients import TokenRule, ValueAndGrad
from kdlight.reduce.loss import Loss, PerTokenLoss
from kdlight.reduce.plan import Chunked, plan
from kdlight.reduce.sums import select_valid
from kdlight.sources import LogitsSource


class RowProblems(NamedTuple):
    """A sum over groups of consecutive valid rows, such as the sequences of a Sinkhorn distance.

    Such a group is called a problem, as each is a problem of optimal transport.

    Attributes:
        sizes: number of rows of each problem, at least one; together they are all valid rows.
        value: ``(n, V), (n, V) -> ()``, the value of a problem from the logits of student and
            teacher, differentiable in the student's.
        loss: ``(G,) -> Loss``, from the values of all problems to their loss.
        factor: what the sum of the values is multiplied by.

    Example:
        >>> distance = lambda student, teacher: (student.sum() - teacher.sum()).square()
        >>> mean = lambda values: Loss(values.sum(), torch.tensor(2))
        >>> problems = RowProblems((2, 3), distance, mean)
        >>> problems.loss(torch.ones(2)).mean()
        tensor(1.)
    """

    sizes: tuple[int, ...]
    value: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor], Loss]
    factor: float = 1.0


def coupled_sum(
    per_token_loss: PerTokenLoss,
    student: LogitsSource,
    teacher: LogitsSource,
    labels: Tensor | None,
    mask: Tensor | None,
    problems: RowProblems,
    *,
    value_and_grad: ValueAndGrad | None = None,
    parameters: Sequence[Tensor] = (),
    chunked: Chunked = "auto",
) -> tuple[Loss, Tensor] | None:
    """Sum ``per_token_loss`` over the valid positions, and add the values of problems.

    The values are multiplied by ``problems.factor``. Other arguments are those of
    `kdlight.reduce.token_sum`; the teacher must be a tensor, or hidden states and a head.

    Returns:
        The loss, whose total is the sum of both, and the value of each problem ``(G,)`` without a
        graph and without the factor. None where logits are computed at once, or where a problem
        does not fit into a chunk.

    Example:
        >>> from kdlight.sources import Dense
        >>> x, count = torch.ones(3, 2), torch.tensor(2)
        >>> mean = lambda values: Loss(values.sum(), count)
        >>> problems = RowProblems((2, 1), lambda student, teacher: student.sum(), mean)
        >>> rows = (lambda student, teacher, labels: student[:, 0]), Dense(x), Dense(x)
        >>> loss, values = coupled_sum(*rows, None, None, problems, chunked=True)
        >>> loss.total, values
        (tensor(9.), tensor([4., 2.]))
    """
    rows = sum(problems.sizes)
    chunking, _ = plan(student, teacher, rows, chunked)
    if chunking is None or not rows:
        return None
    tokens, _ = chunking.sizes(rows, student.shape[-1], student.device, student.dtype)
    if max(problems.sizes) > tokens:
        return None
    rule = TokenRule(per_token_loss, value_and_grad, tuple(parameters))
    work = select_valid(rule, student, teacher, labels, mask, None, rows=rows)
    work = replace(work, chunking=chunking)
    coupled = CoupledWork.of(work, problems)
    total, parts = chunked_sum(coupled)
    count = torch.full((), work.rows, device=total.device)
    return Loss(total, count, parts), torch.stack(coupled.values)


@dataclass(frozen=True)
class CoupledWork(TokenWork):
    """Per-token terms and problems, evaluated together.

    Attributes:
        problems: the problems; their rows are divided into chunks of whole problems.
        values: the value of each problem, once they are evaluated.
    """

    problems: RowProblems | None = None
    values: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, work: TokenWork, problems: RowProblems) -> CoupledWork:
        """Add problems to the per-token terms of ``work``."""
        own = {each.name: getattr(work, each.name) for each in fields(TokenWork)}
        return cls(**own, problems=problems)

    def chunks(self, tokens: int) -> list[slice]:
        """Return the rows of each chunk: as many whole problems as there is room for."""
        ends = [0]
        stop = 0
        assert self.problems is not None
        for size in self.problems.sizes:
            if ends[-1] < stop and stop + size - ends[-1] > tokens:
                ends.append(stop)
            stop += size
        return [slice(*each) for each in zip(ends, [*ends[1:], stop], strict=True)]

    def providers(self) -> Providers:
        """Create the providers; that of the student adds the gradients of the problems."""
        student, teacher = super().providers()
        assert teacher is not None
        assert self.problems is not None
        self.values.clear()
        return CoupledChunks(student, teacher, self), teacher

    def weighted_sum(self, values: Tensor) -> Tensor:
        """Add the problems to the sum over rows."""
        assert self.problems is not None
        return super().weighted_sum(values) + torch.stack(self.values).sum() * self.problems.factor


class CoupledChunks:
    """A student's logits, with the gradients of problems added to those of per-token terms."""

    def __init__(self, student: ChunkedLogits, teacher: TeacherChunks, work: CoupledWork) -> None:
        assert work.problems is not None
        self.inputs = student.inputs
        self.student, self.teacher = student, teacher
        self.problems, self.values = work.problems, work.values
        self.remaining = iter(work.problems.sizes)
        self.transforms = tuple(
            getattr(source, "transform", None) for source in (work.student, work.teacher)
        )
        self.rows: slice | None = None
        self.grad: Tensor | None = None
        self.backwards = False

    def begin(self, rows: slice) -> None:
        """Start a chunk. The teacher starts after this, so that problems wait for a block."""
        self.student.begin(rows)
        self.rows = rows

    def block(self, part: slice) -> Tensor:
        """Return the logits ``(m, V)`` of a part of the chunk; evaluate its problems before."""
        if self.rows is not None:
            self._evaluate(self.rows.stop - self.rows.start)
            self.rows = None
        return self.student.block(part)

    def _evaluate(self, rows: int) -> None:
        grads, start = [], 0
        student = self.student.block(slice(0, rows))
        teacher = self.teacher.block(slice(0, rows), student)
        while start < rows:
            part = slice(start, start := start + next(self.remaining))
            grads.append(self._differentiate(student[part], teacher[part]))
        if self.backwards:
            self.grad = torch.cat(grads) if len(grads) > 1 else grads[0]

    def _differentiate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Evaluate a problem, and return its gradient in the logits that the head computes."""
        leaf = widen(student).detach().requires_grad_(self.backwards)
        with torch.set_grad_enabled(self.backwards):
            value = self.problems.value(
                *(
                    logits if transform is None else transform(widen(logits))
                    for logits, transform in zip((leaf, teacher), self.transforms, strict=True)
                )
            )
            self.values.append(value.detach())
            return torch.autograd.grad(value, leaf)[0] if self.backwards else leaf

    def require_grad(self, needed: Sequence[bool]) -> None:
        """Prepare for the gradients of some of the inputs."""
        self.student.require_grad(needed)
        self.backwards = True

    def set_grad(self, part: slice, grad: Tensor) -> None:
        """Add the gradient ``(m, V)`` of a part of the problems, and pass on the sum."""
        assert self.grad is not None
        self.student.set_grad(part, torch.add(grad, self.grad[part], alpha=self.problems.factor))

    def backward(self, rows: slice) -> None:
        """Propagate the gradient of the chunk to the inputs."""
        self.grad = None
        self.student.backward(rows)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradient of each input, None where it is not needed."""
        return self.student.gradients()
