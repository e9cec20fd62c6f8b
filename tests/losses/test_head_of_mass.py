"""The head of a distribution is that of a full stable sort, to the last token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.losses import head_of_mass as module
from kdlight.losses.head_of_mass import FIRST, head_of_mass

MASSES = (0.0, 0.1, 0.5, 0.9, 0.9999999, 1.0)


def by_full_sort(p: Tensor, mass: float) -> Tensor:
    """The head by its definition."""
    ordered, order = torch.sort(p, dim=-1, descending=True, stable=True)
    size = (ordered.cumsum(-1) <= mass).sum(-1, keepdim=True).clamp(min=1)
    inside = torch.arange(p.shape[-1]) < (size if mass < 1 else p.shape[-1])
    return torch.zeros_like(p).scatter(-1, order, inside.to(p.dtype).expand_as(p))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 0.01, 2.0, 30.0])
def test_it_is_that_of_a_full_sort(spread: float, dtype: torch.dtype, tied: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for width in (1, 7, 500, FIRST + 1, 3 * FIRST):
        logits = spread * torch.randn(5, width, dtype=torch.float64, generator=generator)
        p = (logits.bfloat16() if tied else logits).to(dtype).softmax(-1)
        for mass in MASSES:
            assert torch.equal(head_of_mass(p, mass), by_full_sort(p, mass))


def test_peaked_and_flat_rows_may_be_in_one_block() -> None:
    p = torch.zeros(3, 3 * FIRST)
    p[0], p[1, 5], p[2, :4] = 1 / p.shape[-1], 1.0, 0.25
    head = head_of_mass(p, 0.6)
    assert torch.equal(head, by_full_sort(p, 0.6))
    assert head[1:].sum(-1).tolist() == [1.0, 2.0]
    assert head[0].sum() == pytest.approx(0.6 * p.shape[-1], rel=1e-3)


def test_nothing_is_asked_where_values_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    p = torch.randn(4, 60, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    p = p.softmax(-1)
    monkeypatch.setattr(module, "is_in_memory", lambda tensor: False)
    monkeypatch.setattr(Tensor, "numpy", None)
    for mass in MASSES:
        assert torch.equal(head_of_mass(p, mass), by_full_sort(p, mass))


@pytest.mark.parametrize("width", [7, FIRST + 1])
def test_there_may_be_no_rows(width: int) -> None:
    assert head_of_mass(torch.empty(2, 0, width), 0.5).shape == (2, 0, width)
