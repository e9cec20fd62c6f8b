"""Objectives that are a sum over positions of a per-token loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlight.checks import check_positive
from kdlight.losses.log_space import tempered
from kdlight.objectives.base import Objective, check_vocabularies
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.redefined import BESIDE, is_redefined
from kdlight.reduce import Loss, PerTokenValues, position_values, token_sum
from kdlight.reduce.gradients import ValueAndGrad
from kdlight.sources.tempered import has_no_level

GRADIENT_METHODS = ("value_and_grad", "divergence_and_grad")
"""Methods that define a loss together with its gradient."""


class TokenObjective(Objective):
    """An objective that is the sum over valid positions of a per-token loss.

    A subclass defines `per_token_loss`; masking, normalization, mixed precision, accumulation,
    ranks and bounded memory come from the driver. It may also define `value_and_grad`, for speed. A
    subclass of that which changes the loss but not its gradient is differentiated by autograd.

    Example:
        >>> import torch
        >>> class Agreement(TokenObjective):
        ...     def per_token_loss(self, student, teacher, labels):
        ...         return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)
        >>> mask = torch.tensor([True, False])
        >>> Agreement()(LossInputs(torch.zeros(2, 5), torch.zeros(2, 5), mask=mask)).count
        tensor(1)
    """

    is_per_token = True

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> PerTokenValues:
        """Compute the loss of each row, ``(n, V), (n, V), (n,) -> (n,)``.

        May return a pair of that and a dict of further ``(n,)`` values to sum for the log.
        ``teacher`` or ``labels`` is None where the class does not need it. Rows are evaluated in
        blocks, so none may depend on another.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define per_token_loss()")

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[PerTokenValues, Tensor] | None:
        """Compute the loss and its gradient, ``(n, V), (n, V), (n,) -> (n,), (n, V)``, or None.

        An optimization on CPUs: what autograd computes from `per_token_loss`, in fewer passes over
        the logits, which come in float32 or wider and must not be changed in place. Where a value
        is not finite, autograd is used. A wrong gradient is not noticed: compare it with autograd
        in a test, in float64.

        Returns:
            What `per_token_loss` returns, and the gradient of each row's loss in the student's
            logits, a new tensor without a graph; None where there is no closed form for these
            hyper-parameters. Values may have a graph to parameters of the objective.

        Example:
            >>> class Squares(TokenObjective):
            ...     def per_token_loss(self, student, teacher, labels):
            ...         return (student - teacher).square().sum(-1)
            ...     def value_and_grad(self, student, teacher, labels):
            ...         difference = student - teacher
            ...         return difference.square().sum(-1), 2 * difference
            >>> rows = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2)
            >>> values, gradient = Squares().value_and_grad(*rows, None)
            >>> (expected,) = torch.autograd.grad(Squares().per_token_loss(*rows, None), rows[0])
            >>> torch.testing.assert_close(gradient.detach(), expected)
        """
        return None

    def per_sample_loss(self, inputs: LossInputs) -> Tensor:
        """Compute the mean loss of each sample without a gradient, ``(B,)``; 0 without valid ones.

        For callbacks and samplers that weight samples; it costs one more evaluation.
        """
        self.check(inputs)
        with torch.no_grad():
            values = position_values(
                self.per_token_loss,
                inputs.student,
                inputs.teacher if "teacher" in self.needs else None,
                inputs.class_labels,
                inputs.mask,
                chunked=inputs.chunked,
                row_group=inputs.row_group,
            )
        sums = values.flatten(1).sum(-1) if values.dim() > 1 else values
        if inputs.mask is None:
            return sums / max(values[:1].numel(), 1)
        counts = inputs.mask.reshape(len(values), -1).sum(-1).clamp(min=1)
        return sums / counts.to(sums)

    def check(self, inputs: LossInputs) -> None:
        """Check that everything needed is present, and that both sides have one vocabulary."""
        super().check(inputs)
        if "teacher" in self.needs and inputs.teacher is not None:
            check_vocabularies(inputs.student.shape[-1], inputs.teacher.shape[-1])
            if not self.uses_probabilities and has_no_level(inputs.teacher):
                raise ValueError(
                    f"{type(self).__name__} compares outputs themselves, but this teacher has"
                    " log-probabilities, which are outputs only up to a constant: it is cached,"
                    " served, or an average of several. Use one live teacher, one that serves"
                    " hidden states (RemoteTeacher(states=True)), or an objective on probabilities"
                )

    def forward(self, inputs: LossInputs) -> Loss:
        """Sum `per_token_loss` over the valid positions."""
        self.check(inputs)
        return token_sum(
            self.per_token_loss,
            inputs.student,
            inputs.teacher if "teacher" in self.needs else None,
            inputs.class_labels,
            inputs.mask,
            value_and_grad=closed_form(self),
            parameters=tuple(p for p in self.parameters() if p.requires_grad),
            chunked=inputs.chunked,
            row_group=inputs.row_group,
        )


def closed_form(objective: nn.Module) -> ValueAndGrad | None:
    """Return ``value_and_grad`` of an objective, or None where its loss is another one.

    A loss that a subclass redefines must not be evaluated by the closed form of its parent.

    Example:
        >>> closed_form(TokenObjective()) is None
        False
    """
    beside = BESIDE | {"forward", "row_problems"}
    found = getattr(objective, "value_and_grad", None)
    return None if is_redefined(objective, *GRADIENT_METHODS, beside=beside) else found


class Divergence(TokenObjective):
    r"""A divergence between the softmaxes of logits divided by a temperature.

    The gradient of a divergence of softmaxes at temperature :math:`T` shrinks like
    :math:`1/T^2`; multiplying by :math:`T^2` keeps its size relative to other terms (Hinton,
    Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2).

    Args:
        temperature: divides both logits, above 0. Callbacks may change it.
        temperature_squared: multiply by ``temperature ** 2``.

    Raises:
        ValueError: temperature is not above 0 and finite.

    Example:
        >>> import torch
        >>> class SquaredDistance(Divergence):
        ...     def divergence(self, student, teacher, labels):
        ...         return (student.softmax(-1) - teacher.softmax(-1)).square().sum(-1)
        >>> SquaredDistance()(LossInputs(torch.zeros(4, 7), torch.zeros(4, 7))).total
        tensor(0.)
    """

    def __init__(self, *, temperature: float = 1.0, temperature_squared: bool = True) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = float(temperature)
        self.temperature_squared = bool(temperature_squared)

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        """Compute the divergence of each row at ``self.temperature``, without the factor T^2."""
        raise NotImplementedError(f"{type(self).__name__} does not define divergence()")

    def divergence_and_grad(
        self, student: Tensor, teacher: Tensor, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Compute `divergence` at temperature 1 and its gradient, or return None."""
        return None

    def per_token_loss(self, student: Tensor, teacher: Any, labels: Any) -> Tensor:
        """Compute the divergence of each row, times T^2 with ``temperature_squared``."""
        values = self.divergence(student, teacher, labels)
        return values * self.temperature**2 if self.temperature_squared else values

    def value_and_grad(
        self, student: Tensor, teacher: Any, labels: Any
    ) -> tuple[Tensor, Tensor] | None:
        """Apply the temperature to `divergence_and_grad`."""
        temperature = self.temperature
        if not torch.compiler.is_compiling() and temperature == 1:  # as in `tempered`
            return self.divergence_and_grad(student, teacher, labels)
        student, teacher = tempered(student, temperature), tempered(teacher, temperature)
        result = self.divergence_and_grad(student, teacher, labels)
        if result is None:
            return None
        values, grad = result
        if self.temperature_squared:
            return values * temperature**2, grad.mul_(temperature)
        return values, grad.div_(temperature)
