"""``kdlight objectives``: what it says is what the code says, and what the code does."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kdlight.cli import main
from kdlight.cli.described import BASES, find_configs, find_methods, find_objectives, find_sources
from kdlight.objectives import OBJECTIVES, LossInputs, Objective

FOUND = find_objectives()
METHODS = find_methods()


@pytest.fixture(autouse=True)
def _like_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_names_its_paper_and_explains_its_hyper_parameters(name: str) -> None:
    each = FOUND[name]
    assert each.sources
    assert all(parameter.text for parameter in each.hyper_parameters)
    assert each.formula
    assert each.configs[0] == name


def test_all_that_is_public_is_found() -> None:
    from kdlight import objectives

    public = [getattr(objectives, name) for name in objectives.__all__]
    classes = {c for c in public if isinstance(c, type) and issubclass(c, Objective)}
    assert {each.class_name for each in FOUND.values()} == {
        cls.__name__ for cls in classes - set(BASES)
    }
    used = {stem for each in (*FOUND.values(), *METHODS) for stem in each.configs}
    assert used == set(find_configs())


def test_methods_that_are_no_objectives_are_found() -> None:
    papers = {each.class_path: [str(source) for source in each.sources] for each in METHODS}
    assert len(papers["kdlight.OnlineDistillationModule"]) == 2
    assert "On-Policy" in papers["kdlight.callbacks.OnPolicy"][0]
    assert not any(path.startswith("kdlight.objectives") for path in papers)


def test_a_paper_stands_where_a_paragraph_begins() -> None:
    class Mine:
        """Something, as in Jones, "Not this one", 1999.

        Smith, Li et al., "A
        title", 2031 (SL), eq. (3). Choose it.
        """

    (source,) = find_sources(Mine)
    assert str(source) == 'Smith, Li et al., "A title", 2031'


NEEDS: dict[str, dict[str, Any]] = {
    "teacher": {"teacher": None},
    "labels": {"labels": None},
    "pairs of a right and a wrong trace": {"rejected": None},
    "spans": {"span_ids": None},
}


@pytest.mark.parametrize("name", [name for name in FOUND if name != "Weighted"])
def test_an_objective_refuses_a_step_without_what_it_is_said_to_need(name: str) -> None:
    from kdlight import objectives

    cls = getattr(objectives, FOUND[name].class_name)
    whole: dict[str, Any] = {
        "student": torch.zeros(2, 3, 5),
        "teacher": torch.zeros(2, 3, 5),
        "labels": torch.ones(2, 3, dtype=torch.long),
        "rejected": torch.tensor([False, True]),
        "span_ids": torch.zeros(2, 3, dtype=torch.long),
    }
    assert cls()(LossInputs(**whole)).count > 0
    for need, without in NEEDS.items():
        step = LossInputs(**whole | without)
        if need in FOUND[name].needs:
            with pytest.raises(
                ValueError, match=f"needs {need.split()[0]}|needs a|needs step|span"
            ):
                cls()(step)
        else:
            cls()(step)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["objectives"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    for name in FOUND:
        assert any(line.split()[:1] == [name] for line in lines)
    assert any("temperature_squared: bool = True" in line for line in lines)


@pytest.mark.parametrize("name", ["taid", "JensenShannon", "jensen-shannon", "sinkd"])
def test_one_is_shown_and_its_commands_work(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["objectives", name])
    shown = capsys.readouterr().out
    commands = [line.split(": ", 1)[1] for line in shown.splitlines() if ": kdlight fit" in line]
    assert len(commands) == 2
    chosen = shown.split("kdlight.objectives.")[1].split()[0]
    for command in commands:
        _, *args = shlex.split(command.replace("CONFIG", "configs/cross_entropy.yaml"))
        with pytest.raises(SystemExit) as done:
            main([*args, "--print_config"])
        assert done.value.code == 0
        config = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["objective"]
        assert config["class_path"] == f"kdlight.objectives.{chosen}"


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["objectives", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told] == list(FOUND)
    main(["objectives", "skew_forward_kl", "--json"])
    (one,) = json.loads(capsys.readouterr().out)
    assert one["hyper_parameters"][0] == {
        "name": "skew",
        "type": "float",
        "default": "0.1",
        "text": "weight of the teacher in the mixture, in [0, 1); 0 is forward KL.",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("foward_kl", "unknown objective 'foward_kl'; did you mean forward_kl or "),
        ("xyz", "unknown objective 'xyz'; known: adaptive_kl, "),
    ],
)
def test_an_unknown_name_is_one_clear_error(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["objectives", name])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {said}")
    assert len(captured.err.splitlines()) == 1
