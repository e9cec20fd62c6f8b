"""Recomputation: the autocast of its creation, the random numbers of its first call."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.recompute import Recomputation, current_autocast

CPU = torch.device("cpu")


def product() -> Tensor:
    return torch.ones(2, 2) @ torch.ones(2, 2)


def test_each_call_has_the_autocast_of_the_creation() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        run = Recomputation(CPU)
    plain = Recomputation(CPU)
    assert [run(product).dtype for _ in range(2)] == [torch.bfloat16] * 2
    with torch.autocast("cpu", torch.bfloat16):
        assert [plain(product).dtype for _ in range(2)] == [torch.float32] * 2
    assert product().dtype == torch.float32


def test_the_autocast_of_now_can_be_entered_later() -> None:
    with torch.autocast("cpu", torch.float16):
        autocast = current_autocast(CPU)
    with autocast():
        assert torch.get_autocast_dtype("cpu") == torch.float16
        assert product().dtype == torch.float16


def test_each_call_has_the_random_numbers_of_the_first() -> None:
    torch.manual_seed(0)
    expected = torch.rand(6)
    torch.manual_seed(0)
    run, other = Recomputation(CPU), Recomputation(CPU)
    first = run(lambda: torch.rand(2))
    second = other(lambda: torch.rand(2))
    assert torch.equal(torch.cat([first, second]), expected[:4])  # random numbers are used up once
    assert torch.equal(run(lambda: torch.rand(2)), first)
    assert torch.equal(other(lambda: torch.rand(2)), second)
    assert torch.equal(torch.rand(2), expected[4:])  # as if there had been no second call
