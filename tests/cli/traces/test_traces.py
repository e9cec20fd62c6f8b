"""The list of the commands for traces is that of what they do."""

from __future__ import annotations

import pytest

from kdlight.cli import main
from kdlight.cli.traces import COMMANDS, commands


def test_the_help_lists_each_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(commands.COMMANDS) == COMMANDS
    with pytest.raises(SystemExit) as stop:
        main(["traces", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for name, function in commands.COMMANDS.items():
        assert f"kdlight traces {name} --help" in printed
        assert (function.__doc__ or "").split("\n")[0] in printed


def test_without_a_command_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces"])
    assert stop.value.code == 2
    assert "kdlight traces verify --help" in capsys.readouterr().out


def test_a_command_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["traces", "invent"])
    assert stop.value.code == 2
    assert "invent" in capsys.readouterr().err
