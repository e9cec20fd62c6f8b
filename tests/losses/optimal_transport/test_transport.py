"""Python Optimal Transport as the oracle, and problems whose answer is known."""

from __future__ import annotations

from typing import Any

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ot.batch import solve_batch
from torch import Tensor

from kdlight.losses.optimal_transport.transport import transport_costs

SIZES = [(1, 1), (1, 5), (6, 1), (7, 7), (4, 9)]
EPSILONS = [1.0, 0.1, 0.005, 0.001]  # a plain exponential of -2 / 0.005 is 0 in float32


def random(n: int, m: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, m, dtype=torch.float64, generator=generator)


def adversarial() -> dict[str, Tensor]:
    return {
        "all alike": torch.full((4, 4), 1.5, dtype=torch.float64),
        "free": torch.zeros(3, 5, dtype=torch.float64),
        "far and near": torch.tensor([[0.0, 2.0], [2.0, 2.0]], dtype=torch.float64),
        "one column near": torch.where(torch.arange(6) == 2, 0.0, 2.0).double().repeat(6, 1),
        "tiny differences": 1 + 1e-9 * random(5, 5),
        "large": 30 * random(4, 4),
    }


PROBLEMS = {f"{n}x{m}": random(n, m) for n, m in SIZES} | adversarial()


def pot(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    result: Any = solve_batch(
        cost[None],
        reg=epsilon,
        max_iter=iterations,
        tol=0.0,
        method="log_sinkhorn",
        grad="autodiff",
    )
    return result.value_linear[0]


@pytest.mark.parametrize("cost", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("solver", ["torch", "pot"])
def test_a_fixed_number_of_turns(cost: Tensor, epsilon: float, solver: str) -> None:
    for iterations in (1, 3, 20):
        leaf = cost.clone().requires_grad_()
        options: Any = {"epsilon": epsilon, "iterations": iterations, "solver": solver}
        (ours,) = transport_costs([leaf], **options)
        theirs = pot(leaf, epsilon, iterations)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        slopes = [torch.autograd.grad(value, leaf)[0] for value in (ours, theirs)]
        torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("epsilon", [0.5, 0.1])
def test_convergence(n: int, m: int, epsilon: float) -> None:
    cost = random(n, m)
    (ours,) = transport_costs([cost], epsilon=epsilon, iterations=3000)
    theirs = ot.sinkhorn2(
        [], [], cost, epsilon, method="sinkhorn_log", numItermax=20_000, stopThr=1e-13
    )
    torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-9, atol=1e-10)
    assert ours >= ot.emd2([], [], cost) - 1e-12


@pytest.mark.parametrize("cost", PROBLEMS.values(), ids=PROBLEMS)
def test_problems_of_different_sizes_solve_as_if_alone(cost: Tensor) -> None:
    costs = [cost, random(3, 3, seed=1), random(8, 2, seed=2), random(1, 1, seed=3)]
    leaves = [each.clone().requires_grad_() for each in costs]
    for gradient in ("unrolled", "implicit", "detached"):
        together = transport_costs(leaves, gradient=gradient)
        alone = torch.cat([transport_costs([leaf], gradient=gradient) for leaf in leaves])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
        for one, other in zip(
            torch.autograd.grad(together.sum(), leaves),
            torch.autograd.grad(alone.sum(), leaves),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("epsilon", [0.3, 0.1])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (6, 6), (4, 9)])
def test_the_implicit_gradient_is_that_of_convergence(n: int, m: int, epsilon: float) -> None:
    cost = random(n, m).requires_grad_()
    options: Any = {"epsilon": epsilon, "iterations": 3000}
    slopes = {
        gradient: torch.autograd.grad(
            transport_costs([cost], gradient=gradient, **options).sum(), cost
        )[0]
        for gradient in ("unrolled", "implicit", "detached")
    }
    torch.testing.assert_close(slopes["implicit"], slopes["unrolled"], rtol=1e-8, atol=1e-11)
    if n > 1:  # the plan is the slope of something else
        assert (slopes["detached"] - slopes["unrolled"]).abs().max() > 1e-3


@given(st.permutations(range(5)), st.sampled_from([0.05, 0.01, 0.001]))
@settings(max_examples=20, deadline=None)
def test_a_permutation_is_found(order: list[int], epsilon: float) -> None:
    points = torch.eye(5, dtype=torch.float64)
    cost = torch.cdist(points, points[list(order)], p=1)
    assert transport_costs([cost], epsilon=epsilon).item() == pytest.approx(0.0, abs=1e-9)


@given(st.integers(1, 6), st.lists(st.floats(0, 2), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_to_a_single_point_goes_everything(n: int, distances: list[float]) -> None:
    cost = torch.tensor(distances, dtype=torch.float64)
    for shape in ((-1, 1), (1, -1)):
        value = transport_costs([cost.view(shape)], iterations=1 + n)
        torch.testing.assert_close(value[0], cost.mean())


@given(st.floats(-3, 3), st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_a_translation_costs_its_length(shift: float, n: int) -> None:
    points = 10 * torch.arange(n, dtype=torch.float64)[:, None]  # far apart, beside the shift
    cost = torch.cdist(points, points + shift, p=1)
    assert transport_costs([cost], epsilon=0.05).item() == pytest.approx(abs(shift), abs=1e-9)


def test_float32_is_close_to_float64_where_an_exponential_underflows() -> None:
    for epsilon in (0.005, 0.001):
        cost = random(9, 9).float().requires_grad_()
        assert (torch.exp(-cost / epsilon) == 0).any()
        (value,) = transport_costs([cost], epsilon=epsilon)
        (exact,) = transport_costs([cost.double()], epsilon=epsilon)
        assert value.item() == pytest.approx(exact.item(), rel=1e-4)
        assert torch.autograd.grad(value, cost)[0].isfinite().all()
