"""Values of a per-token loss and their gradients in the logits: closed form, autograd, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.reduce.loss import PerTokenLoss, PerTokenValues, split_values

ValueAndGrad = Callable[..., "tuple[Tensor, Tensor] | None"]
Transform = Callable[[Tensor], Tensor]


class TokenRule(NamedTuple):
    """A per-token loss, and how to compute its gradient.

    Attributes:
        per_token_loss: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and further values.
        value_and_grad: ``(n, V), (n, V), (n,) -> (n,), (n, V)``, losses and their gradients in the
            student's logits, or None where these hyper-parameters have no closed form.
        parameters: trainable tensors that the loss reads.
        student_transform: what remains to be applied to the student's logits.
        teacher_transform: what remains to be applied to the teacher's logits.
    """

    per_token_loss: PerTokenLoss
    value_and_grad: ValueAndGrad | None = None
    parameters: tuple[Tensor, ...] = ()
    student_transform: Transform | None = None
    teacher_transform: Transform | None = None

    def values(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Evaluate ``per_token_loss`` on logits that may be in half precision and untransformed."""
        return self.per_token_loss(
            _transformed(student, self.student_transform),
            _transformed(teacher, self.teacher_transform),
            labels,
        )

    def closed_form(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Evaluate ``value_and_grad`` on such logits, or return None where there is none."""
        if self.value_and_grad is None or self.student_transform is not None:
            return None
        teacher = _transformed(teacher, self.teacher_transform)
        return self.value_and_grad(widen(student), teacher, labels)


class TokenGradients(NamedTuple):
    """Losses ``(n,)``, their gradients ``(n, V)``, and the gradients of the rule's parameters."""

    values: Tensor
    student: Tensor
    extras: dict[str, Tensor]
    parameters: Sequence[Tensor | None]


def token_gradients(
    rule: TokenRule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> TokenGradients:
    """Compute the per-token losses, and the gradients of their weighted sum.

    A closed form need not treat forbidden tokens (logits of -inf): where a value is not finite,
    ``per_token_loss`` and autograd are used instead.
    """
    result = rule.closed_form(student, teacher, labels)
    if result is None or not bool(result[0].isfinite().all()):
        return autograd_gradients(rule, student, teacher, labels, weights)
    values, grad = result
    grad = grad if weights is None else grad.mul_(weights.unsqueeze(-1))
    return TokenGradients(values, grad, {}, ())


@torch.enable_grad()
def autograd_gradients(
    rule: TokenRule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> TokenGradients:
    """Compute the same from ``per_token_loss`` alone, by autograd on a detached leaf."""
    leaf = widen(student).detach().requires_grad_()
    values, extras = split_values(rule.values(leaf, teacher, labels))
    extras = {name: value.detach() for name, value in extras.items()}
    if not values.requires_grad:  # a constant
        return TokenGradients(values, torch.zeros_like(leaf), extras, ())
    outer = torch.ones_like(values) if weights is None else weights.to(values.dtype)
    grad, *own = torch.autograd.grad(values, [leaf, *rule.parameters], outer, allow_unused=True)
    grad = torch.zeros_like(leaf) if grad is None else grad
    return TokenGradients(values.detach(), grad, extras, own)


def compiled_gradients(
    rule: TokenRule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> TokenGradients:
    """Compute the same by compiled code, where there are no parameters and values are finite."""
    if not rule.parameters:
        result = _compile(rule)(student, teacher, labels, weights)
        if bool(result.values.isfinite().all()):
            return result
    return token_gradients(rule, student, teacher, labels, weights)


@lru_cache(maxsize=32)
def _compile(rule: TokenRule) -> Callable[..., TokenGradients]:
    def compute(
        student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
    ) -> TokenGradients:
        result = rule.closed_form(student, teacher, labels)
        if result is not None:
            values, grad = result
            grad = grad if weights is None else grad * weights.unsqueeze(-1)
            return TokenGradients(values, grad.to(student.dtype), {}, ())

        def total(logits: Tensor) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            values, extras = split_values(rule.values(logits, teacher, labels))
            weighted = values if weights is None else values * weights
            return weighted.sum(), (values, extras)

        grad, (values, extras) = torch.func.grad(total, has_aux=True)(widen(student))
        return TokenGradients(values, grad.to(student.dtype), extras, ())

    return torch.compile(compute, dynamic=False)


def _transformed(logits: Any, transform: Transform | None) -> Any:
    if logits is None:
        return None
    return widen(logits) if transform is None else transform(widen(logits))
