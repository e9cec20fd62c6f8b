"""The slopes of a rule on rows: in closed form, compiled, or by autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.reduce.loss import Rows, split_rows

ClosedForm = Callable[..., "tuple[Tensor, Tensor] | None"]


class Rule(NamedTuple):
    """A rule on rows of logits, and how its slopes may be had.

    Attributes:
        rows: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and further values by name.
        closed_form: ``(n, V), (n, V), (n,) -> (n,), (n, V)``, values and their slopes, or None
            where there is none for these hyper-parameters.
        parameters: what of its own the rule reads and learns.
    """

    rows: Rows
    closed_form: ClosedForm | None = None
    parameters: tuple[Tensor, ...] = ()


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
    them: where a value is not finite, `rows` decides.
    """
    found = None if rule.closed_form is None else rule.closed_form(student, teacher, labels)
    if found is None or not bool(found[0].isfinite().all()):
        return by_autograd(rule, student, teacher, labels, weights)
    values, slope = found
    return Slopes(values, slope if weights is None else slope.mul_(weights.unsqueeze(-1)), {}, ())


@torch.enable_grad()
def by_autograd(
    rule: Rule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> Slopes:
    """The same from `rows` alone, on a leaf of its own."""
    leaf = student.detach().requires_grad_()
    values, extras = split_rows(rule.rows(leaf, teacher, labels))
    if not values.requires_grad:  # a constant
        return Slopes(values, torch.zeros_like(leaf), extras, ())
    given = torch.ones_like(values) if weights is None else weights.to(values.dtype)
    slope, *others = torch.autograd.grad(
        values, [leaf, *rule.parameters], given, allow_unused=True
    )
    extras = {name: value.detach() for name, value in extras.items()}
    return Slopes(values.detach(), torch.zeros_like(leaf) if slope is None else slope, extras, others)


def through(transform: Callable[[Tensor], Tensor] | None, rule: Rule) -> Rule:
    """The rule on logits that ``transform`` has yet to be applied to."""
    if transform is None:
        return rule
    outer = transform

    def rows(student: Tensor, teacher: Any, labels: Any) -> Any:
        return rule.rows(outer(student), teacher, labels)

    return Rule(rows, None, rule.parameters)


@lru_cache(maxsize=32)
def compiled(rows: Rows) -> Callable[..., Slopes]:
    """Values and slopes as one compiled function, made from ``rows`` alone."""

    def work(student: Tensor, teacher: Any, labels: Any, weights: Tensor | None) -> Slopes:
        def total(logits: Tensor) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            values, extras = split_rows(rows(logits, teacher, labels))
            weighted = values if weights is None else values * weights
            return weighted.sum(), (values, extras)

        slope, (values, extras) = torch.func.grad(total, has_aux=True)(student)
        return Slopes(values, slope, extras, ())

    return torch.compile(work, dynamic=False)
