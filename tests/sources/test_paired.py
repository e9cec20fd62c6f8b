"""Logits of two positions as one row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import Dense, Projected, TopK
from kdlight.sources import Pair, pair_with_next

HIDDEN = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
FIRST = torch.tensor([0, 2, 5])
HEAD = nn.Linear(3, 5)


def doubled(hidden: torch.Tensor) -> torch.Tensor:
    return 2 * HEAD(hidden)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (Dense(HEAD(HIDDEN).detach()), Dense),
        (Projected(HIDDEN, HEAD), Projected),
        (Projected(HIDDEN, HEAD, torch.tanh), Projected),
        (TopK.of(HEAD(HIDDEN).detach(), 5), Pair),
    ],
    ids=["dense", "projected", "transformed", "top-k"],
)
def test_a_row_is_followed_by_the_next(source: Any, kind: type) -> None:
    pairs = pair_with_next(source, FIRST)
    assert type(pairs) is kind
    assert pairs.shape == (3, 10)
    rows = source.select(None).logits()
    expected = torch.cat([rows[FIRST], rows[FIRST + 1]], -1)
    torch.testing.assert_close(pairs.logits(), expected)
    some = pairs.select(torch.tensor([2, 0]))
    assert some.shape == (2, 10)
    torch.testing.assert_close(some.logits(), expected[[2, 0]])


def test_a_head_that_is_a_plain_function_makes_a_pair() -> None:
    class Plain(Projected):
        @property
        def shape(self) -> torch.Size:
            return torch.Size([*self.hidden.shape[:-1], 5])

    pairs = pair_with_next(Plain(HIDDEN, doubled), FIRST)
    assert type(pairs) is Pair
    rows = doubled(HIDDEN).view(8, 5)
    torch.testing.assert_close(pairs.logits(), torch.cat([rows[FIRST], rows[FIRST + 1]], -1))


def test_gradients_reach_both_positions() -> None:
    hidden = HIDDEN.clone().requires_grad_()
    pair_with_next(Projected(hidden, HEAD), torch.tensor([1])).logits().sum().backward()
    assert hidden.grad is not None
    reached = hidden.grad.view(8, 3).abs().sum(-1).nonzero().flatten()
    assert reached.tolist() == [1, 2]
