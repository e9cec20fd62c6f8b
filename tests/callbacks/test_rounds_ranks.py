"""Rounds on two ranks make what one process makes, also if they are killed in between."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.callbacks.round_recipes.pool import from_json
from tests.support import rounds_fit
from tests.support.forked_ranks import start_forked
from tests.support.rank_scripts import fit_on_ranks

SCRIPT = "tests.support.rounds_fit"
RECIPES = ["competitive", "imitation", "budgeted"]
CASES = {
    **{f"{recipe} ddp": {"recipe": recipe} for recipe in RECIPES},
    "competitive fsdp2": {"recipe": "competitive", "strategy": "fsdp2"},
    "imitation fsdp2": {"recipe": "imitation", "strategy": "fsdp2"},
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    cases = {
        name: {**case, "save": False, "folder": str(folder / name)} for name, case in CASES.items()
    }
    return fit_on_ranks(SCRIPT, cases, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_pool_and_the_weights_are_those_of_one_process(
    name: str, ranks: list[Any], tmp_path: Path
) -> None:
    recipe = str(CASES[name]["recipe"])
    alone = rounds_fit.fit({"folder": str(tmp_path), "recipe": recipe, "save": False})
    assert len(alone["history"]) == 2
    assert alone["pool"]
    for rank in ranks:
        made = rank[name]
        assert made["pool"] == alone["pool"]
        assert made["bytes"] == alone["bytes"]
        assert made["samples"] == alone["samples"]
        assert made["history"] == alone["history"]
        for key, value in alone["weights"].items():
            torch.testing.assert_close(made["weights"][key], value, rtol=1e-3, atol=2e-4)


def run(folder: Path, ranks: int, **options: Any) -> list[int]:
    """Fit on ranks of their own, one of which may be killed; return their exit codes."""
    cases = {"fit": {"folder": str(folder), "ranks": ranks, "recipe": "competitive", **options}}
    return start_forked(SCRIPT, json.dumps(cases), str(folder), ranks=ranks).codes


@pytest.mark.parametrize(
    "count", [pytest.param(1, id="one"), pytest.param(2, id="ddp", marks=pytest.mark.slow)]
)
def test_a_run_killed_inside_a_round_continues_to_the_same_bytes(
    count: int, tmp_path: Path
) -> None:
    """Killed where the teacher answers the second of three batches of the second round."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert run(whole, count, dropout=0.2) == [0] * count
    uninterrupted = torch.load(whole / "0.pt")["fit"]
    first_round = len(uninterrupted["calls"]) // 2  # about; the kill is in the second one
    teacher = killed / "rounds" / "round_2" / "teacher.jsonl"
    codes = run(killed, count, dropout=0.2, kill=first_round + 2)
    assert -signal.SIGKILL in codes
    assert teacher.exists()
    assert not (killed / "0.pt").exists()
    on_disk = len(teacher.read_text().splitlines())
    assert 0 < on_disk < 24
    assert run(killed, count, dropout=0.2, resume=str(killed / "epoch=0.ckpt")) == [0] * count
    resumed = torch.load(killed / "0.pt")["fit"]
    assert resumed["bytes"] == uninterrupted["bytes"]
    assert resumed["pool"] == uninterrupted["pool"]
    for key, value in uninterrupted["weights"].items():
        assert torch.equal(resumed["weights"][key], value), key
    asked_again = sum(uninterrupted["calls"]) - sum(resumed["calls"])
    assert asked_again >= on_disk  # what was on disk was not asked again
    files = {path.name: path.read_bytes() for path in (whole / "rounds" / "round_2").iterdir()}
    for name, content in files.items():
        assert (killed / "rounds" / "round_2" / name).read_bytes() == content, name


def test_a_run_resumed_from_any_checkpoint_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    options = {"recipe": "competitive", "dropout": 0.2}
    whole = rounds_fit.fit({**options, "folder": str(folder), "everywhere": True})
    paths = [
        path for path in sorted(folder.glob("*.ckpt")) if not path.stem.startswith(("2", "epoch=2"))
    ]
    assert len(paths) == 13
    for number, path in enumerate(paths):
        copy = tmp_path / str(number)
        shutil.copytree(folder / "rounds", copy / "rounds")
        resume = {**options, "folder": str(copy), "resume": str(path), "seed": 1}
        resumed = rounds_fit.fit(resume)
        assert resumed["bytes"] == whole["bytes"], path.name
        assert resumed["history"] == whole["history"], path.name
        for key, value in whole["weights"].items():
            assert torch.equal(resumed["weights"][key], value), (path.name, key)


def test_every_trace_tells_its_origin(tmp_path: Path) -> None:
    made = rounds_fit.fit({"folder": str(tmp_path), "save": False})
    origins = [from_json(line).meta["origin"] for line in made["pool"]]
    assert {origin["round"] for origin in origins} == {1, 2}
    assert {origin["author"] for origin in origins} == {"student"}
    assert {origin["score"] for origin in origins} == {1.0}
