"""DPO and SimPO: losses of the margin between two sequences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kdlight import losses


def test_dpo_is_log_2_at_the_reference_and_falls_with_the_margin() -> None:
    chosen = torch.tensor([-8.0, -6.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-9.0, -12.0], dtype=torch.float64)
    reference = torch.tensor([-8.0, -7.0]).double(), torch.tensor([-9.0, -10.0]).double()
    values = losses.dpo(chosen, rejected, *reference, beta=0.5)
    margins = torch.tensor([0.0, 3.0], dtype=torch.float64)  # (1 over the reference) + 2
    torch.testing.assert_close(values, -(0.5 * margins).sigmoid().log())
    assert values[0].item() == pytest.approx(math.log(2))
    (grad,) = torch.autograd.grad(values.sum(), chosen)
    torch.testing.assert_close(grad, -0.5 * (-0.5 * margins).sigmoid())


def test_simpo_is_log_2_where_the_scaled_margin_is_gamma() -> None:
    chosen, rejected = torch.tensor([-0.5, -1.0]), torch.tensor([-1.25, -1.0])
    values = losses.simpo(chosen, rejected, beta=2.0, gamma=1.5)
    torch.testing.assert_close(values, torch.tensor([math.log(2), math.log1p(math.exp(1.5))]))


@pytest.mark.parametrize("margin", [-2000.0, 2000.0])
def test_a_huge_margin_is_finite(margin: float) -> None:
    chosen, zero = torch.tensor([margin]), torch.zeros(1)
    expected = torch.tensor([max(-margin, 0.0)])
    torch.testing.assert_close(losses.dpo(chosen, zero, zero, zero, beta=1.0), expected)
    torch.testing.assert_close(losses.simpo(chosen, zero, beta=1.0, gamma=0.0), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: losses.dpo(m, m, m[:1], m), "reference_chosen must hold"),
        (lambda m: losses.dpo(m, m, m, m, beta=0.0), "beta must be above 0"),
        (lambda m: losses.simpo(m, m, gamma=-1.0), "gamma must be in"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2))
