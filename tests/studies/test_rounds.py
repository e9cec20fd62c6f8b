"""The study of rounds counts right."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.studies.rounds import recipes, run, table


def test_means_and_errors_of_seeds() -> None:
    results = {
        "a b 0": {"accuracy": [0.1, 0.2], "rounds": 2, "added": 10},
        "a b 1": {"accuracy": [0.1, 0.4], "rounds": 4, "added": 20},
    }
    head, _, row = table(results, 2, 1000).splitlines()
    assert head == "| accuracy, %, after tokens | 500 | 1,000 | rounds | added |"
    assert row == "| a b | 10.0 ± 0.0 | 30.0 ± 10.0 | 3 | 15 |"


@pytest.mark.filterwarnings("ignore:round 1")  # a student that has learned nothing is never right
def test_all_students_train_on_the_same_number_of_tokens(tmp_path: Path) -> None:
    sizes = argparse.Namespace(
        size=48, held=8, per_round=16, every=1, tokens=1200, marks=2, lr=3e-3
    )
    added = {}
    for name, make in recipes(sizes).items():
        found = run(name, make and make(), tmp_path / name, 0, sizes)
        assert len(found["accuracy"]) == 2
        assert 8 <= found["steps"] <= 20
        added[name] = found["added"]
    assert added["without rounds"] == 0
    assert added["competitive"] > 0
    assert added["random new prompts"] > 0
