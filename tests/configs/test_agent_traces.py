"""The config of agent distillation trains on the turns of correct trajectories."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from kdlight.cli.config_files import read_config
from kdlight.data import TracesDataModule
from tests.support import tiny_lm
from tests.support.config_runs import FOLDER, arguments, tiny

__all__ = ["tiny"]  # the fixture

CONFIG = FOLDER / "agent_traces.yaml"


def rows() -> list[dict[str, Any]]:
    """Return 30 trajectories of two turns; of each six, three are to be kept."""
    kinds: list[tuple[float, Any]] = [
        (1.0, None),
        (1.0, "execution"),
        (1.0, []),
        (1.0, "parse"),
        (1.0, "step_limit"),
        (0.0, None),
    ]
    made = []
    for i in range(30):
        score, error = kinds[i % 6]
        messages = [
            {"role": "user", "content": f"{i} + 1 ="},
            {"role": "assistant", "content": f"run {i}+1"},
            {"role": "tool", "content": f"result {i + 1}"},
            {"role": "assistant", "content": f"It is {i + 1}."},
        ]
        made.append({"id": str(i), "messages": messages, "score": score, "error": error})
    return made


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "agent.jsonl"
    path.write_text("\n".join(map(json.dumps, rows())))
    return str(path)


@pytest.mark.parametrize("chat", [False, True])
def test_all_turns_of_correct_trajectories_are_scored(file: str, chat: bool) -> None:
    options = {**read_config(CONFIG)["data"]["init_args"], "validation_fraction": 0.0}
    tokenizer = tiny_lm.tokenizer(chat=chat)
    data = TracesDataModule(**{**options, "files": file, "tokenizer": tokenizer, "max_length": 250})
    data.setup()
    assert len(data.train_rows) == 15
    end = "<end>" if chat else "\n"
    for i, sample in enumerate(data.train_rows.samples):
        number = int(sample[0].prompt_id)
        assert number % 6 < 3
        labels, ids = (data.train_rows[i][name][0].tolist() for name in ("labels", "input_ids"))
        scored = tokenizer.decode([token for token in labels if token != -100])
        assert scored == f"run {number}+1{end}It is {number + 1}.<end>"
        unscored = [token for token, label in zip(ids, labels, strict=True) if label == -100]
        assert f"result {number + 1}" in tokenizer.decode(unscored)
        assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_config_runs_on_trajectories(
    file: str, tiny: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdlight.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])
    main(arguments(CONFIG, {**tiny, "traces": file}))
    (log,) = tmp_path.rglob("metrics.csv")
    losses = [row["train/loss"] for row in csv.DictReader(log.read_text().splitlines())]
    assert len([loss for loss in losses if loss and math.isfinite(float(loss))]) == 2
    assert list(tmp_path.rglob("student_agent"))
