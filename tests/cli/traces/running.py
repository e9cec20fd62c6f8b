"""Commands for traces that are run in this process, and the one line of their errors."""

from __future__ import annotations

import pytest

from kdlight.cli import main


def run(*arguments: str) -> None:
    main(["traces", *arguments])


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that a command prints when it stops."""
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line
