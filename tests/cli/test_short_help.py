"""Help with the options of a command, without those of a fit."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.cli.short_help import show_help


def add(parser: Any) -> None:
    parser.add_argument("--mine", type=int, default=3, help="One of mine.")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_it_has_the_options_of_the_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        show_help(["--config", "a.yaml", flag], "name", "Does it.", add)
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "kdlight name --config FILE" in printed
    assert "Does it. It also takes the options of a fit" in printed
    assert "One of mine. (type: int, default: 3)" in printed
    assert "--traceback" in printed


def test_without_the_flag_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    show_help(["--mine", "4"], "name", "Does it.", add)
    assert capsys.readouterr().out == ""
