"""Weights in half precision that updates would not change."""

from __future__ import annotations

import pytest
import torch

from kdlight.callbacks.preference.frozen_weights import check_weights_move, frozen_share


def test_the_frozen_share_is_that_of_an_optimizer_step() -> None:
    weight = (0.02 * torch.randn(4096)).bfloat16()
    for lr in (1e-6, 1e-5, 1e-4, 1e-3):
        moved = torch.nn.Parameter(weight.clone())
        moved.grad = torch.ones_like(moved)
        torch.optim.AdamW([moved], lr=lr, weight_decay=0.0).step()
        unchanged = (moved == weight).float().mean().item()
        assert frozen_share([weight], lr) == pytest.approx(unchanged, abs=0.1)


def optimizer(dtype: torch.dtype, *, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.full((8,), 0.02, dtype=dtype))], lr=lr)


def test_most_weights_must_change() -> None:
    check_weights_move([optimizer(torch.float32, lr=1e-6), optimizer(torch.bfloat16, lr=1e-2)])
    with pytest.raises(ValueError, match=r"1e-06 would leave 100% of the torch.bfloat16 weights"):
        check_weights_move([optimizer(torch.bfloat16, lr=1e-6)])


def test_the_rate_after_the_warm_up_decides() -> None:
    warming_up = optimizer(torch.bfloat16, lr=1e-2)
    torch.optim.lr_scheduler.LinearLR(warming_up, start_factor=1e-5)
    assert warming_up.param_groups[0]["lr"] == pytest.approx(1e-7)
    check_weights_move([warming_up])
