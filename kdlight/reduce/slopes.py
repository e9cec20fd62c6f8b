"""The slopes of a rule on rows: in closed form, by autograd, or either of them compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.reduce.loss import Rows, RowValues, split_rows

ClosedForm = Callable[..., "tuple[Tensor, Tensor] | None"]
Transform = Callable[[Tensor], Tensor]


class Rule(NamedTuple):
    """A rule on rows of logits, and how its slopes may be had.

    Attributes:
        rows: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and further values by name.
        closed_form: ``(n, V), (n, V), (n,) -> (n,), (n, V)``, values and their slopes, or None
            where there is none for these hyper-parameters.
        parameters: what of its own the rule reads and learns.
        student_transform, teacher_transform: what is yet to be done to the logits of either side.
    """

    rows: Rows
    closed_form: ClosedForm | None = None
    parameters: tuple[Tensor, ...] = ()
    student_transform: Transform | None = None
    teacher_transform: Transform | None = None

    def values(self, student: Tensor, teacher: Any, labels: Any) -> RowValues:
        """``rows`` of logits as they come from the head: in half precision, and untransformed."""
        return self.rows(
            _ready(student, self.student_transform),
            _ready(teacher, self.teacher_transform),
            labels,
        )

    def in_closed_form(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """`closed_form` of such logits, or None where there is none."""
        if self.closed_form is None or self.student_transform is not None:
            return None
        return self.closed_form(widen(student), _ready(teacher, self.teacher_transform), labels)


class Slopes(NamedTuple):
    """Row values ``(n,)``, their slopes ``(n, V)``, and what goes to the rule's parameters."""

    values: Tensor
    student: Tensor
    extras: dict[str, Tensor]
    parameters: Sequence[Tensor | None]


def slopes(
    rule: Rule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> Slopes:
    """Values of the rows, and the slopes of their weighted sum.

    A closed form that comes upon forbidden tokens (a logit at -inf) is not asked to know about
    them: where a value is not finite, ``rows`` decides.
    """
    found = rule.in_closed_form(student, teacher, labels)
    if found is None or not bool(found[0].isfinite().all()):
        return by_autograd(rule, student, teacher, labels, weights)
    values, slope = found
    return Slopes(values, slope if weights is None else slope.mul_(weights.unsqueeze(-1)), {}, ())


@torch.enable_grad()
def by_autograd(
    rule: Rule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> Slopes:
    """The same from ``rows`` alone, on a leaf of its own."""
    leaf = widen(student).detach().requires_grad_()
    values, extras = split_rows(rule.values(leaf, teacher, labels))
    extras = {name: value.detach() for name, value in extras.items()}
    if not values.requires_grad:  # a constant
        return Slopes(values, torch.zeros_like(leaf), extras, ())
    given = torch.ones_like(values) if weights is None else weights.to(values.dtype)
    slope, *own = torch.autograd.grad(values, [leaf, *rule.parameters], given, allow_unused=True)
    slope = torch.zeros_like(leaf) if slope is None else slope
    return Slopes(values.detach(), slope, extras, own)


def by_compiler(
    rule: Rule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> Slopes:
    """The same, compiled; what cannot be, or comes upon a value that is not finite, is not."""
    if not rule.parameters:
        found = _compiled(rule)(student, teacher, labels, weights)
        if bool(found.values.isfinite().all()):
            return found
    return slopes(rule, student, teacher, labels, weights)


@lru_cache(maxsize=32)
def _compiled(rule: Rule) -> Callable[..., Slopes]:
    def work(student: Tensor, teacher: Any, labels: Any, weights: Tensor | None) -> Slopes:
        found = rule.in_closed_form(student, teacher, labels)
        if found is not None:
            values, slope = found
            slope = slope if weights is None else slope * weights.unsqueeze(-1)
            return Slopes(values, slope.to(student.dtype), {}, ())

        def total(logits: Tensor) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            values, extras = split_rows(rule.values(logits, teacher, labels))
            weighted = values if weights is None else values * weights
            return weighted.sum(), (values, extras)

        slope, (values, extras) = torch.func.grad(total, has_aux=True)(widen(student))
        return Slopes(values, slope.to(student.dtype), extras, ())

    return torch.compile(work, dynamic=False)


def _ready(logits: Any, transform: Transform | None) -> Any:
    if logits is None:
        return None
    return widen(logits) if transform is None else transform(widen(logits))
