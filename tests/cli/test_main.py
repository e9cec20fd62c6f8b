"""The commands of kdlight, started as ``kdlight``, ``python -m kdlight`` and ``-m kdlight.cli``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlight.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["kdlight", "kdlight.cli"])
def test_a_module_is_the_command(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", module, "objectives", "taid"],
        cwd=ROOT,
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


HEAVY = {"torch", "lightning", "lightning.pytorch", "transformers", "torchmetrics"}
QUICK = {
    "help": ["--help"],
    "list": ["objectives"],
    "one objective": ["objectives", "taid"],
    "unknown objective": ["objectives", "nope"],
    "unknown command": ["nope"],
    "export": ["export", "--help"],
    "cache": ["cache", "--help"],
    "doctor": ["doctor", "--help"],
    "serve": ["serve", "--help"],
    "traces": ["traces", "--help"],
}


@pytest.mark.parametrize("args", QUICK.values(), ids=QUICK)
def test_help_and_lists_need_neither_torch_nor_lightning(args: list[str]) -> None:
    """It takes less than a second; 5 are for a machine that is busy with something else."""
    code = (
        "import sys\nfrom kdlight.cli import main\n"
        f"try: main({args})\nexcept SystemExit: pass\n"
        f"print(*sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    )
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stderr.splitlines()[-1] == ""
    assert time.monotonic() - start < 5


def test_a_command_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fti"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unknown command 'fti'; did you mean fit?\n"


def test_a_module_of_the_working_directory_can_be_named(tmp_path: Path) -> None:
    """Also by the installed command, to which Python does not add the directory by itself."""
    (tmp_path / "mine.py").write_text("print('imported')")
    code = "from kdlight.cli import main; main(['fit', '--model', 'mine.Module'])"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code] if sys.version_info >= (3, 11) else ["true"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "imported" in run.stdout or sys.version_info < (3, 11)


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
