"""Configs with bases are parsed, and errors are one line or a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonargparse import ActionConfigFile  # pyright: ignore[reportPrivateImportUsage]

from kdlight.cli.config_parser import Parser
from kdlight.cli.errors import tracebacks


@pytest.fixture
def parser() -> Parser:
    made = Parser()
    made.add_argument("--config", action=ActionConfigFile)
    made.add_argument("--model.rate", type=float)
    return made


def test_a_config_may_have_a_base(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rate: 0.5")
    (tmp_path / "a.yaml").write_text("model: base.yaml")
    assert parser.parse_args(["--config", str(tmp_path / "a.yaml")])["model"]["rate"] == 0.5


def test_an_error_is_one_line(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser.error("it is wrong", ValueError("it is wrong"))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: it is wrong\n"


def test_an_error_has_a_traceback_if_that_is_wanted(parser: Parser) -> None:
    with tracebacks(True), pytest.raises(ValueError, match="it is wrong"):
        parser.error("it is wrong", ValueError("it is wrong"))
