"""Saved and restored random generators."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from kdlight.callbacks.resume.random_state import random_state, set_random_state


def draw() -> list[float]:
    return [random.random(), np.random.normal(), torch.rand(()).item()]


def test_a_checkpoint_of_the_states_restores_all_generators(tmp_path: Path) -> None:
    np.random.normal()  # NumPy draws pairs: the second one is part of the state
    torch.save(random_state(), tmp_path / "states.pt")
    expected = [draw() for _ in range(3)]
    set_random_state(torch.load(tmp_path / "states.pt", weights_only=True))
    assert [draw() for _ in range(3)] == expected
    assert draw() not in expected
