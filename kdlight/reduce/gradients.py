"""Values of a per-token loss and their gradients in the logits: closed form, autograd, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.losses.value_and_grad import has_impossible_tokens
from kdlight.reduce.loss import PerTokenLoss, PerTokenValues, split_values

ValueAndGrad = Callable[..., "tuple[Tensor, Tensor] | None"]
Transform = Callable[[Tensor], Tensor]
Numbers = tuple[tuple[Any, str], ...]


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
        """Evaluate ``value_and_grad`` on such logits, or return None where there is none.

        The values are NaN where the closed form does not apply, as a logit is -inf or close to it.
        """
        if self.value_and_grad is None or self.student_transform is not None:
            return None
        student, teacher = widen(student), _transformed(teacher, self.teacher_transform)
        result = self.value_and_grad(student, teacher, labels)
        if result is None:
            return None
        values, grad = result
        # a closed form need not treat impossible tokens, and its values may look finite
        wrong = has_impossible_tokens(student, teacher)
        return values.masked_fill(wrong, torch.nan), grad


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

    Where a value of the closed form is not finite, ``per_token_loss`` and autograd compute it.
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
        compiled, numbers = _compile(rule)
        settings = [getattr(module, name) for module, name in numbers]
        result = compiled(student, teacher, labels, weights, settings)
        if bool(result.values.isfinite().all()):
            return result
    return token_gradients(rule, student, teacher, labels, weights)


@lru_cache(maxsize=32)
def _compile(rule: TokenRule) -> tuple[Callable[..., TokenGradients], Numbers]:
    """Return the compiled computation, and the numbers whose values are its last argument."""
    numbers = _numbers(rule)

    def compute(
        student: Tensor, teacher: Any, labels: Any, weights: Tensor | None, settings: list[float]
    ) -> TokenGradients:
        # as inputs, numbers that a schedule changes are variables; attributes would be constants,
        # and each change of one would be compiled again
        for (module, name), value in zip(numbers, settings, strict=True):
            setattr(module, name, value)
        result = rule.closed_form(student, teacher, labels)
        if result is not None:
            values, grad = result
            grad = grad if weights is None else grad * weights.unsqueeze(-1)
            return TokenGradients(values, _narrow(grad, student.dtype), {}, ())

        def total(logits: Tensor) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            values, extras = split_values(rule.values(logits, teacher, labels))
            weighted = values if weights is None else values * weights
            return weighted.sum(), (values, extras)

        grad, (values, extras) = torch.func.grad(total, has_aux=True)(widen(student))
        return TokenGradients(values, _narrow(grad, student.dtype), extras, ())

    return torch.compile(compute), numbers


def _numbers(rule: TokenRule) -> Numbers:
    """Return the floating-point attributes of the module that has the loss, and of its parts."""
    owner = getattr(rule.per_token_loss, "__self__", None)
    modules = owner.modules() if isinstance(owner, torch.nn.Module) else ()
    return tuple(
        (module, name)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, float)
    )


def _narrow(grad: Tensor, dtype: torch.dtype) -> Tensor:
    # float16 has too few exponents: the head's products scale the gradient first
    return grad if dtype == torch.float16 else grad.to(dtype)


def _transformed(logits: Any, transform: Transform | None) -> Any:
    if logits is None:
        return None
    return widen(logits) if transform is None else transform(widen(logits))
