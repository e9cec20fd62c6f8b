"""Runs in which nothing new would be trained on; in whole fits see test_rounds.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.callbacks.round_recipes.run_checks import (
    check_data,
    check_epochs,
    check_reloads,
    check_teacher,
)
from kdlight.data import TracesDataModule
from kdlight.data.traces.sums_module import SumsDataModule
from kdlight.objectives import ForwardKL
from tests.support import tiny_lm, toy


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "pairs", "per_prompt": None}, "kind 'positives', got 'pairs'"),
        ({}, "per_prompt None, got 1"),
        ({"curriculum": "long_to_short"}, "curriculum None, got 'long_to_short'"),
    ],
    ids=["pairs", "per_prompt", "curriculum"],
)
def test_data_that_would_not_use_new_traces_are_refused(options: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_data(TracesDataModule(tiny_lm.tokenizer(), "traces.jsonl", **options))
    data = SumsDataModule(tiny_lm.tokenizer(), size=3)
    assert check_data(data) is data


def test_loaders_and_epochs(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    check_reloads(run)
    check_epochs(run, 2)
    with pytest.raises(ValueError, match="every_n_epochs is 3, but the run has 3 epochs"):
        check_epochs(run, 3)
    with pytest.raises(ValueError, match="got 2"):
        check_reloads(toy.trainer(tmp_path, reload_dataloaders_every_n_epochs=2))
    check_epochs(toy.trainer(tmp_path, max_steps=5, max_epochs=-1), 3)


def test_a_live_teacher_is_fine() -> None:
    check_teacher(toy.module(ForwardKL()))
