"""Iterations on scaling vectors give the plans and gradients of those in log space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.losses import likeliest, sinkhorn
from kdlight.losses.optimal_transport import scaling, transport
from kdlight.losses.optimal_transport.plan import log_sinkhorn
from kdlight.losses.optimal_transport.scaling import LARGEST, can_scale, scaling_grad


def problem(largest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Three problems of different sizes, padded."""
    kernel = -torch.rand(3, 6, 5, dtype=torch.float64) * largest
    rows, columns = (
        torch.arange(size)[None] < torch.randint(1, size + 1, (3, 1)) for size in (6, 5)
    )
    valid = rows[:, :, None] & columns[:, None]
    return kernel.masked_fill(~valid, 0.0), rows, columns


@pytest.mark.parametrize("iterations", [1, 2, 20])
@pytest.mark.parametrize("largest", [1.0, 20.0, LARGEST])
def test_plans_and_gradients_are_those_of_log_space(largest: float, iterations: int) -> None:
    kernel, rows, columns = problem(largest)
    assert can_scale(kernel)
    found = scaling.scaling_sinkhorn(kernel, rows, columns, iterations=iterations)
    kernel.requires_grad_()
    expected = log_sinkhorn(kernel, rows, columns, iterations=iterations)
    torch.testing.assert_close(found.plan, expected, rtol=1e-9, atol=1e-14)
    weights = torch.randn_like(expected) * (rows[:, :, None] & columns[:, None])
    (slopes,) = torch.autograd.grad((weights * expected).sum(), kernel)
    torch.testing.assert_close(scaling_grad(found, weights), slopes, rtol=1e-8, atol=1e-12)


def unreadable(tensor: Tensor) -> bool:
    return False


@pytest.mark.parametrize("gradient", ["unrolled", "implicit", "detached"])
@pytest.mark.parametrize("options", [{}, {"relative_epsilon": True}, {"debiased": True, "p": 2}])
def test_a_device_that_is_not_asked_gets_the_same(
    gradient: str, options: dict[str, bool | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = (torch.randn(2, 4, 6, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    results = []
    for host in (True, False):
        monkeypatch.setattr(scaling, "is_in_memory", likeliest.is_in_memory if host else unreadable)
        value = sinkhorn(student, teacher, geometry="sequence", gradient=gradient, **options)  # type: ignore[arg-type]
        results.append((value, *torch.autograd.grad(value, student)))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_the_gradient_is_that_of_finite_differences(p: int) -> None:
    student, teacher = (torch.randn(5, 4, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sinkhorn(x, teacher, p=p, iterations=4), student)


def test_costs_beyond_the_range_are_computed_in_log_space(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    monkeypatch.setattr(transport, "scaling_sinkhorn", None)  # is not called
    value = transport.transport_costs([cost.requires_grad_()], epsilon=1e-4)
    assert value.item() == 0
    assert torch.autograd.grad(value.sum(), cost)[0].isfinite().all()


def test_numbers_that_are_no_costs_are_not_scaled() -> None:
    for wrong in (torch.nan, -torch.inf, -LARGEST - 1):
        assert not can_scale(torch.tensor([[0.0, wrong]]))


@pytest.mark.parametrize("shift", [-1e4, -50.0, 1e4])
def test_a_constant_added_to_all_costs_changes_no_plan(shift: float) -> None:
    kernel = -LARGEST * torch.rand(1, 4, 3, dtype=torch.float64)
    rows, columns = (torch.ones(1, size, dtype=torch.bool) for size in (4, 3))
    assert can_scale(kernel + shift)
    one, other = (
        scaling.scaling_sinkhorn(each, rows, columns, iterations=5).plan
        for each in (kernel, kernel + shift)
    )
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-14)


def test_costs_below_0_are_computed_in_log_space_where_they_differ_much() -> None:
    cost = torch.tensor([[-100.0, 0.0], [-100.0, 0.0]])
    assert not can_scale(cost / 0.1)
    torch.testing.assert_close(transport.transport_costs([cost]), torch.tensor([-50.0]))
