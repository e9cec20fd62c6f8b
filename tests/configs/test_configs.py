"""Each config is a complete fit that parses and runs, and each objective has one."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest
import yaml

from kdlight.cli.config_files import read_config
from kdlight.objectives import OBJECTIVES
from tests.support.config_runs import CONFIGS, FOLDER, arguments, tiny, within

__all__ = ["tiny"]  # the fixture

# a cached teacher has to be written first, which tests/cli/test_cache.py does; a served one has to
# run, see test_served.py
ALONE = [path for path in CONFIGS if path.stem not in ("cached", "served")]


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])  # Lightning warns of arguments given twice


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_a_config(name: str) -> None:
    (path,) = (each for each in CONFIGS if each.stem == name)
    assert f"kdlight.objectives.{OBJECTIVES[name].__name__}" in within(
        read_config(path)["model"]["init_args"]["objective"], "class_path"
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_parses(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kdlight.cli import main

    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(config), "--print_config"])
    assert done.value.code == 0
    whole = yaml.safe_load(capsys.readouterr().out)
    assert set(within(read_config(config), "class_path")) <= set(within(whole, "class_path"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of its own libraries
@pytest.mark.parametrize("config", ALONE, ids=lambda path: path.stem)
def test_a_config_runs(config: Path, tiny: dict[str, str], tmp_path: Path) -> None:
    from kdlight.cli import main

    main(arguments(config, tiny))
    (log,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(log.read_text().splitlines()))
    losses = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    for target in within(read_config(config), "target"):
        assert len([row for row in rows if row.get(f"train/{target}")]) == 2


def test_every_base_is_included_by_a_config() -> None:
    text = "".join(path.read_text() for path in CONFIGS)
    bases = [path.name for path in (FOLDER / "base").glob("*.yaml")]
    assert bases
    assert [name for name in bases if f"base/{name}" not in text] == []
