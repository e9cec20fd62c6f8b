"""Measures of balance: their values, and that they are finite where a gate has collapsed."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import pytest
import torch

from kdlight.objectives.fusion.load_balance import BALANCE, balance_cv, balance_kl


def weights(rows: int = 6, teachers: int = 3, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(rows, teachers, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1)


def test_values_are_those_of_the_formulas() -> None:
    log_w = weights()
    shares = log_w.exp().mean(0).tolist()
    kl = sum(log(1 / 3 / share) / 3 for share in shares) / 3
    assert balance_kl(log_w).item() == pytest.approx(kl, abs=1e-14)
    sums = log_w.exp().sum(0).tolist()
    mean = sum(sums) / 3
    std = sqrt(sum((each - mean) ** 2 for each in sums) / 2)  # unbiased
    assert balance_cv(log_w).item() == pytest.approx(std / mean, abs=1e-14)


@pytest.mark.parametrize("name", BALANCE)
def test_equal_shares_are_balanced_however_sure_the_gate_is(name: Any) -> None:
    one_each = (50 * torch.eye(3, dtype=torch.float64)).log_softmax(-1)
    undecided = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    assert BALANCE[name](one_each).item() == pytest.approx(0, abs=1e-12)
    value = BALANCE[name](undecided.log_softmax(-1))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert undecided.grad is not None
    assert undecided.grad.abs().max() < 1e-6  # and not NaN, as the slope of a root at 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BALANCE)
def test_a_collapsed_gate_has_a_finite_value_and_gradient(name: Any, dtype: torch.dtype) -> None:
    logits = torch.zeros(5, 4, dtype=dtype)
    logits[:, 0] = 1e4  # the other shares underflow
    logits.requires_grad_()
    value = BALANCE[name](logits.log_softmax(-1))
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    if name == "kl":  # which leads out of the collapse, and is larger the deeper it is
        assert (logits.grad[:, 0] > 1e-3).all()
        assert (logits.grad[:, 1:] < -1e-3).all()
        assert value > balance_kl((logits / 2).log_softmax(-1)) + 100
    else:
        assert value.item() == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize("name", BALANCE)
def test_no_samples_are_balanced(name: Any) -> None:
    none = torch.zeros(0, 3, requires_grad=True)
    value = BALANCE[name](none)
    assert value == 0
    value.backward()


@pytest.mark.parametrize("name", BALANCE)
def test_the_gradient_is_the_slope(name: Any) -> None:
    logits = weights(4, 3, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: BALANCE[name](x.log_softmax(-1)), logits)
