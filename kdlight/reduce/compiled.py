"""The computation on a block of logits, compiled with `torch.compile`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from kdlight.checks import can_read
from kdlight.losses.log_space import widen
from kdlight.reduce.gradients import TokenGradients, TokenRule, token_gradients
from kdlight.reduce.loss import split_values


class Number:
    """A floating-point number that a schedule may change: an attribute of a module, or an entry.

    Attributes:
        value: the value of this call. Compiled code takes an attribute of an object for a variable,
            but an entry of a list that is read within `torch.func.grad` for a constant.

    Args:
        module: the module.
        name: name of its attribute.
        key: key of an entry of the attribute, which is a dict; None for the attribute itself.
    """

    def __init__(self, module: nn.Module, name: str, key: str | None = None) -> None:
        self.module, self.name, self.key = module, name, key
        self.value = self.read()

    def read(self) -> float:
        """Return the value that the module has."""
        value = getattr(self.module, self.name)
        return value if self.key is None else value[self.key]

    def write(self) -> None:
        """Give the module the value of this call."""
        if self.key is None:
            setattr(self.module, self.name, self.value)
        else:
            getattr(self.module, self.name)[self.key] = self.value


def has_compiler(device: torch.device) -> bool:
    """Return whether compiled code is the default on ``device``: where Triton compiles for it.

    On a CPU compiled code saves little time, and a C++ compiler may be missing.

    Example:
        >>> has_compiler(torch.device("cpu"))
        False
    """
    return device.type in ("cuda", "xpu") and find_spec("triton") is not None


def compiled_gradients(
    rule: TokenRule, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
) -> TokenGradients:
    """Compute `kdlight.reduce.gradients.token_gradients` by compiled code.

    One compilation serves all blocks of two rows and more, and all values of the numbers that
    schedules change. Where there is none, as a compiler is missing or does not support the loss, a
    warning says why, once, and the computation is not compiled.
    """
    if len(student) > 1:  # a compiler treats sizes of 0 and 1 as constants
        result = _block(rule, can_read(student))(student, teacher, labels, weights)
        if result is not None:
            return result
    return token_gradients(rule, student, teacher, labels, weights)


class _CompiledBlock:
    """The compiled computation of one rule; None as a result says that it cannot be used.

    Args:
        rule: a loss whose parameters belong to the module that defines it.
        closed: use the closed form, whose values must be looked at.
    """

    def __init__(self, rule: TokenRule, closed: bool) -> None:
        self.rule, self.closed = rule, closed
        self.loss = _Loss(rule)
        self.numbers = list(_numbers(self.loss))
        self.reason = self.loss.obstacle
        # the number of rows varies, and numbers do; all else is marked as constant in each call
        self.compiled = torch.compile(_with_own_code(self._compute), dynamic=True)

    def __call__(
        self, student: Tensor, teacher: Any, labels: Any, weights: Tensor | None
    ) -> TokenGradients | None:
        """Compute values and gradients, or return None."""
        if self.reason:
            return None
        for each in (student, teacher):
            if isinstance(each, Tensor):
                torch._dynamo.mark_static(each, 1)
        numbers = [each.read() for each in self.numbers]
        own = self.loss.parameters_by_name()
        try:
            result = self.compiled(student, teacher, labels, weights, numbers, own)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # an error of the loss itself is raised by what is not compiled, too
            token_gradients(self.rule, student, teacher, labels, weights)
            self._give_up(error)
            return None
        if self.closed and not bool(result.values.isfinite().all()):
            return None
        return result

    def _give_up(self, error: Exception) -> None:
        lines = str(error).strip().splitlines()
        self.reason = f"{type(error).__name__}: {lines[0] if lines else ''}"
        warnings.warn(
            f"the loss is computed without torch.compile, which failed ({self.reason}); set"
            " compiled=False in kdlight.Chunking to say so yourself",
            stacklevel=2,
        )

    def _compute(
        self,
        student: Tensor,
        teacher: Any,
        labels: Any,
        weights: Tensor | None,
        numbers: list[float],
        own: dict[str, Tensor],
    ) -> TokenGradients:
        # as inputs, numbers that a schedule changes are variables; attributes would be constants,
        # and each change of one would be compiled again
        for each, value in zip(self.numbers, numbers, strict=True):
            each.value = value
        if self.closed and not own:
            for each in self.numbers:
                each.write()
            result = self.rule.closed_form(student, teacher, labels)
            if result is not None:
                values, grad, extras = result
                grad = grad if weights is None else grad * weights.unsqueeze(-1)
                return TokenGradients(values, _narrow(grad, student.dtype), extras, ())

        def total(logits: Tensor, own: dict[str, Tensor]) -> tuple[Tensor, Any]:
            for each in self.numbers:
                each.write()
            values, extras = split_values(
                functional_call(self.loss, own, (logits, teacher, labels))
            )
            weighted = values if weights is None else values * weights
            return weighted.sum(), (values, extras)

        gradients, (_, (values, extras)) = grad_and_value(total, argnums=(0, 1), has_aux=True)(
            widen(student), own
        )
        grad, of_own = gradients
        return TokenGradients(values, _narrow(grad, student.dtype), extras, tuple(of_own.values()))


def _with_own_code(method: MethodType) -> MethodType:
    """Return a copy of a method: PyTorch limits how often one code is compiled, for all losses."""
    function = method.__func__
    copy = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    return MethodType(copy, method.__self__)


# a bound method is hashed with its object, so objectives that are used no more are not kept forever
@lru_cache(maxsize=32)
def _block(rule: TokenRule, closed: bool) -> _CompiledBlock:
    return _CompiledBlock(rule, closed)


class _Loss(nn.Module):
    """The loss of a rule as a module, whose parameters `torch.func.functional_call` replaces."""

    def __init__(self, rule: TokenRule) -> None:
        super().__init__()
        owner = getattr(rule.per_token_loss, "__self__", None)
        self.owner = owner if isinstance(owner, nn.Module) else None
        self.rule = rule

    @property
    def obstacle(self) -> str:
        """Why the gradients of the parameters cannot be found, or an empty string."""
        if len(self.parameters_by_name()) == len(self.rule.parameters):
            return ""
        return "the parameters of the loss are no parameters of the module that defines it"

    def parameters_by_name(self) -> dict[str, Tensor]:
        """Return the parameters of the rule, in its order, by their names in this module."""
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        return {names[id(p)]: p for p in self.rule.parameters if id(p) in names}

    def forward(self, student: Tensor, teacher: Any, labels: Any) -> Any:
        """Evaluate the rule."""
        return self.rule.values(student, teacher, labels)


def _numbers(module: nn.Module) -> Iterator[Number]:
    """Iterate over the floating-point attributes of all parts, and those in dicts of them."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, float):
                yield Number(part, name)
            elif isinstance(value, dict) and not name.startswith("_"):
                keys = [key for key, each in value.items() if isinstance(each, float)]
                yield from (Number(part, name, key) for key in keys)


def _narrow(grad: Tensor, dtype: torch.dtype) -> Tensor:
    # float16 has too few exponents: the head's products scale the gradient first
    return grad if dtype == torch.float16 else grad.to(dtype)
