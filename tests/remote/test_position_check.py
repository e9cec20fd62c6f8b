"""A server whose log-probabilities are shifted by one is noticed, in either direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kdlight.cache.records import Sequence
from kdlight.remote.answers import to_sequence
from kdlight.remote.position_check import Score, check_positions
from tests.support import served

TOKENS = [20, 34, 51, 68, 85]


def score(shift: int, noise: float = 0.0) -> Score:
    network = served.network()
    drawn = np.random.default_rng(0)

    def ask(sequences: list[list[int]]) -> list[Sequence]:
        return [one(each) for each in sequences]

    def one(tokens: list[int]) -> Sequence:
        log_p = torch.roll(served.local(network, tokens), -shift, 0)
        top = log_p.topk(5)
        found: list[Any] = []
        for position in range(len(tokens) - 1):
            values = top.values[position].numpy() - noise * drawn.random(5)
            found.append((position, top.indices[position].tolist(), values.tolist()))
        return to_sequence(len(tokens), found, vocab_size=served.V)

    return ask


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_right_server_is_accepted(noise: float) -> None:
    check_positions(score(0, noise), TOKENS, "a server")


@pytest.mark.parametrize(
    ("shift", "message"), [(1, "change with the token itself"), (-1, "do not depend")]
)
def test_a_shifted_one_is_refused(shift: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_positions(score(shift), TOKENS, "a server")
