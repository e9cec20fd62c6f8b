"""``kdlight export``: its options are those of `export_checkpoint`, and errors are one line.

What it writes is tested in tests/export/test_checkpoint.py.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pytest

from kdlight.cli import main
from kdlight.export import export_checkpoint


def test_the_options_are_the_arguments_of_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"--{name}" in printed for name in signature(export_checkpoint).parameters)


def test_a_missing_checkpoint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", f"--ckpt_path={tmp_path / 'no.ckpt'}", f"--output={tmp_path / 'out'}"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert "no.ckpt" in line
    assert not (tmp_path / "out").exists()
