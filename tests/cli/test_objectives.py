"""``kdlight objectives``: the list, one objective in full, JSON, and unknown names."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

from kdlight.cli import main
from kdlight.cli.descriptions import find_objectives

FOUND = find_objectives()


@pytest.fixture(autouse=True)
def _like_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(Path(__file__).parents[2])


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


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["objectives", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in printed] == list(FOUND)
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
