"""The commands of kdlight, started as ``kdlight``, ``python -m kdlight`` and ``-m kdlight.cli``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kdlight.cli import COMMANDS, main


@pytest.mark.parametrize("module", ["kdlight", "kdlight.cli"])
def test_a_module_is_the_command(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", module, "objectives", "taid"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("taid: kdlight.objectives.TAID")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gets_the_arguments_after_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[list[str]] = []
    monkeypatch.setitem(COMMANDS, name, got.append)
    main([name, "--a", "b"])
    monkeypatch.setattr("sys.argv", ["kdlight", name, "c"])
    main()
    assert got == [["--a", "b"], ["c"]]


def test_the_help_names_lightnings_commands_and_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for name in ("fit", "validate", "test", "predict"):
        assert name in printed
    for name in COMMANDS:
        assert f"kdlight {name} --help" in printed
