"""Each loss is one graph for ``torch.compile``, and gives the same numbers when compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.support.reference import USUAL

# of the compiler itself, which instantiates autograd functions and scripts methods
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

LABELS = torch.tensor([0, 3, -100, 6, 1])


def decoupled_kl(student: Tensor, teacher: Tensor, **hyper: Any) -> Tensor:
    return losses.decoupled_kl(student, teacher, LABELS, **hyper)


def cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.cross_entropy(student, LABELS)


def masked_mean(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.masked_mean(losses.forward_kl(student, teacher), LABELS != -100)


def taid_at_a_tensor(student: Tensor, teacher: Tensor) -> Tensor:
    return losses.taid(student, teacher, t=torch.tensor(0.4))


def function_of(name: str) -> Callable[..., Tensor]:
    return decoupled_kl if name == "decoupled_kl" else getattr(losses, name)


FUNCTIONS = {name: partial(function_of(name), **hyper) for name, hyper in USUAL.items()}
FUNCTIONS |= {f.__name__: f for f in (cross_entropy, masked_mean, taid_at_a_tensor)}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture(autouse=True)
def _reset_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def evaluate(function: Callable[..., Tensor], *hyper: float) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 5, 7, generator=generator).unbind()
    student[:, 4] = teacher[:, 4] = -torch.inf
    student[1, 5] = -torch.inf
    student, teacher = student.requires_grad_(), teacher.requires_grad_()
    values = function(student, teacher, *hyper)
    gradients = torch.autograd.grad(values.sum(), (student, teacher), allow_unused=True)
    return values.detach(), *(torch.zeros(5, 7) if grad is None else grad for grad in gradients)


def same(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@each_function
def test_the_traced_graph_gives_the_same_numbers(name: str) -> None:
    function = FUNCTIONS[name]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    same(evaluate(compiled), evaluate(function))


@pytest.mark.slow
@each_function
def test_the_generated_code_gives_the_same_numbers(name: str) -> None:
    function = FUNCTIONS[name]
    same(evaluate(torch.compile(function, fullgraph=True)), evaluate(function))


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("forward_kl", "temperature"),
        ("symmetric_kl", "forward_weight"),
        ("jensen_shannon", "beta"),
        ("skew_forward_kl", "skew"),
        ("adaptive_kl", "head_mass"),
        ("alpha_beta", "alpha"),
        ("decoupled_kl", "non_target_weight"),
        ("taid", "t"),
    ],
)
def test_hyper_parameters_may_change(name: str, argument: str) -> None:
    def function(student: Tensor, teacher: Tensor, value: float) -> Tensor:
        return function_of(name)(student, teacher, **{argument: value})

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for value in (0.3, 0.4, 0.55):
        same(evaluate(compiled, value), evaluate(function, value))
