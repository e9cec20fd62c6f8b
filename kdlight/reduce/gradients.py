"""Values of a per-token loss and their gradients in the logits, in closed form or by autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.checks import can_read
from kdlight.losses.log_space import same_type, widen
from kdlight.losses.value_and_grad import has_impossible_tokens
from kdlight.reduce.loss import PerTokenLoss, PerTokenValues, split_values

ValueAndGrad = Callable[..., "tuple[PerTokenValues, Tensor] | None"]
Transform = Callable[[Tensor], Tensor]


class TokenRule(NamedTuple):
    """A per-token loss, and how to compute its gradient.

    Attributes:
        per_token_loss: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and further values.
        value_and_grad: ``(n, V), (n, V), (n,) -> (n,), (n, V)``, the same and its gradient in the
            student's logits, or None where these hyper-parameters have no closed form. The values
            may have a graph to the parameters.
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
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
        """Evaluate ``value_and_grad`` on such logits, or return None where there is none.

        Returns values, gradients and further values. The values are NaN where the closed form does
        not apply, as a logit is -inf or close to it.
        """
        if self.value_and_grad is None or self.student_transform is not None:
            return None
        student, teacher = widen(student), _transformed(teacher, self.teacher_transform)
        narrow = student.dtype
        if teacher is not None:
            student, teacher = same_type(student, teacher)
        result = self.value_and_grad(student, teacher, labels)
        if result is None:
            return None
        values, extras = split_values(result[0])
        # a closed form need not treat impossible tokens, and its values may look finite
        wrong = has_impossible_tokens(student, teacher)
        return values.masked_fill(wrong, torch.nan), result[1].to(narrow), extras


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

    Where a value of the closed form is not finite, ``per_token_loss`` and autograd compute it. So
    the closed form needs a look at its values, for which the host would wait on an accelerator:
    there, autograd computes all.
    """
    if can_read(student):
        result = _closed_form_gradients(rule, student, teacher, labels, weights)
        if result is not None and bool(result.values.isfinite().all()):
            return result
    return autograd_gradients(rule, student, teacher, labels, weights)


def _closed_form_gradients(
    rule: TokenRule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> TokenGradients | None:
    with torch.set_grad_enabled(bool(rule.parameters)):
        result = rule.closed_form(student, teacher, labels)
        if result is None:
            return None
        values, grad, extras = result
        own: Sequence[Tensor | None] = ()
        if rule.parameters and values.requires_grad:
            outer = torch.ones_like(values) if weights is None else weights.to(values.dtype)
            own = torch.autograd.grad(values, rule.parameters, outer, allow_unused=True)
    grad = grad if weights is None else grad.mul_(weights.unsqueeze(-1))
    extras = {name: value.detach() for name, value in extras.items()}
    return TokenGradients(values.detach(), grad, extras, own)


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


def _transformed(logits: Any, transform: Transform | None) -> Any:
    if logits is None:
        return None
    return widen(logits) if transform is None else transform(widen(logits))
