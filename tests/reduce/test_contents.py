"""Tensors of a source are found wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Dense, Projected
from kdlight.reduce.contents import tensors_in
from kdlight.sources import Detached, LogitsSource, Mixture, Stacked, Tempered

HEAD = nn.Linear(4, 5, bias=False)
HIDDEN = torch.zeros(2, 4)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = HEAD

    def project(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)


def within(head: nn.Module) -> Callable[[Tensor], Tensor]:
    def project(hidden: Tensor) -> Tensor:
        return head(hidden) if len(hidden) else project(hidden)

    return project


def of_function(head: Any) -> LogitsSource:
    return Projected(HIDDEN, nn.Identity(), head)


OTHER = Dense(torch.zeros(2, 5))
OWNER = torch.zeros(2, dtype=torch.long)
SOURCES: dict[str, LogitsSource] = {
    "head": Projected(HIDDEN, HEAD),
    "detached": Detached(Projected(HIDDEN, HEAD)),
    "tempered mixture": Tempered(Mixture((OTHER, Projected(HIDDEN, HEAD)), (0.5, 0.5)), 2.0),
    "stacked": Stacked((OTHER, Detached(Projected(HIDDEN, HEAD))), OWNER, OWNER),
    "module in a module": Projected(HIDDEN, nn.Sequential(HEAD)),
    "method": of_function(Network().project),
    "partial function": of_function(partial(nn.functional.linear, weight=HEAD.weight)),
    "inner function": of_function(within(HEAD)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_weight_is_found_in_every_part_of_a_source(name: str) -> None:
    assert any(each is HEAD.weight for each in tensors_in(SOURCES[name]))
    assert any(each is HIDDEN for each in tensors_in(SOURCES[name]))


def test_some_types_are_left_out() -> None:
    mixture = Mixture((OTHER, Detached(Projected(HIDDEN, HEAD))), (0.5, 0.5))
    assert [each is OTHER.tensor for each in tensors_in(mixture, beside=Detached)] == [True]


def test_buffers_are_tensors_too() -> None:
    norm = nn.BatchNorm1d(4, affine=False)
    assert len([*tensors_in(Projected(HIDDEN, norm))]) == 4


def test_nothing_has_no_tensors() -> None:
    assert [*tensors_in(None)] == []
