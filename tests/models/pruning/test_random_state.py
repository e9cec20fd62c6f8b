"""What runs within the context leaves no trace in the random state."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.models.pruning.random_state import kept_random_state


def draw() -> tuple[Any, ...]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("fails", [False, True])
def test_the_state_is_what_it_was(seed: int | None, fails: bool) -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    try:
        with kept_random_state(seed):
            within = draw()
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert (within == expected) == (seed is None)
    assert draw() == expected


def test_a_seed_gives_the_same_numbers() -> None:
    drawn = []
    for _ in range(2):
        with kept_random_state(seed=5):
            drawn.append(draw())
    assert drawn[0] == drawn[1]
