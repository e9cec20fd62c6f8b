"""The plan that `sinkhorn` moves predictions by."""

from __future__ import annotations

from typing import Any

import ot
import pytest
import torch
from torch import Tensor

from kdlight.losses import sinkhorn, sinkhorn_plan
from kdlight.losses.optimal_transport.distances import pair_distances


@pytest.fixture
def sides() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        2 * torch.randn(n, 6, dtype=torch.float64, generator=generator) for n in (5, 7)
    )
    return student, teacher


@pytest.mark.parametrize(
    "options",
    [{}, {"epsilon": 0.01}, {"temperature": 1.0, "p": 2}, {"relative_epsilon": True}],
    ids=str,
)
def test_what_it_moves_costs_what_the_loss_says(
    sides: tuple[Tensor, Tensor], options: dict[str, Any]
) -> None:
    plan = sinkhorn_plan(*sides, **options)
    cost = pair_distances(
        *sides, temperature=options.get("temperature", 2.0), p=options.get("p", 1)
    )
    torch.testing.assert_close((plan * cost).sum(), sinkhorn(*sides, **options))


def test_its_columns_are_exact_and_its_rows_in_the_limit(sides: tuple[Tensor, Tensor]) -> None:
    early, late = (sinkhorn_plan(*sides, epsilon=0.02, iterations=n) for n in (2, 2000))
    for plan in (early, late):
        torch.testing.assert_close(plan.sum(0), torch.full((7,), 1 / 7).double())
    torch.testing.assert_close(late.sum(1), torch.full((5,), 0.2).double())
    assert (early.sum(1) - 0.2).abs().max() > 1e-3


def test_a_converged_one_is_that_of_python_optimal_transport(sides: tuple[Tensor, Tensor]) -> None:
    cost = pair_distances(*sides, temperature=2.0).numpy()
    theirs = ot.sinkhorn([], [], cost, reg=0.1, numItermax=5000, stopThr=1e-14)
    torch.testing.assert_close(sinkhorn_plan(*sides, iterations=2000), torch.from_numpy(theirs))


def test_epsilon_goes_from_one_partner_to_all(sides: tuple[Tensor, Tensor]) -> None:
    student = sides[1] + 0.1
    alone, together = (sinkhorn_plan(student, sides[1], epsilon=e) for e in (1e-3, 1e3))
    torch.testing.assert_close(alone, torch.eye(7).double() / 7)
    torch.testing.assert_close(together, torch.full((7, 7), 1 / 49).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 6), (0, 6)])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_points_are_rows(sides: tuple[Tensor, Tensor], shape: tuple[int, ...], side: str) -> None:
    wrong = torch.zeros(shape)
    given = (wrong, sides[1]) if side == "student" else (sides[0], wrong)
    with pytest.raises(ValueError, match=rf"{side} must hold logits \(n, V\).*logits\[mask\]"):
        sinkhorn_plan(*given)


def test_two_vocabularies_have_no_plan() -> None:
    with pytest.raises(ValueError, match="vocabularies differ: 3 and 4"):
        sinkhorn_plan(torch.zeros(2, 3), torch.zeros(2, 4))
