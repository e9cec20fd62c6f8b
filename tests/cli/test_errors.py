"""Messages of the parser become one line with what to do; wrong input exits with code 2."""

from __future__ import annotations

import pytest

from kdlight.cli.errors import explain, one_line_errors


def test_a_message_that_is_not_understood_is_kept() -> None:
    assert explain("something else") == "something else"


def test_an_unknown_objective_is_explained_with_the_known_ones() -> None:
    message = "key='objective', val='Nope'"
    assert explain(message).startswith("unknown objective 'Nope'; known: AdaptiveKL, ")


def test_the_innermost_class_names_its_options() -> None:
    message = (
        "Problem with given class_path 'kdlight.DistillationModule':\n"
        "  Problem with given class_path 'kdlight.objectives.SkewForwardKL':\n"
        "    Option 'beta' is not accepted"
    )
    assert explain(message).startswith(
        "kdlight.objectives.SkewForwardKL has no option 'beta'; it takes: skew"
    )


def test_lines_without_information_are_left_out() -> None:
    message = "no number\n  - Expected a <class 'NoneType'>\nGiven value type: str"
    assert explain(message) == "no number"


@pytest.mark.parametrize("error", [ValueError("a"), TypeError("a"), OSError("a"), ImportError("a")])
def test_errors_of_wrong_input_are_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise error
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a\n"


def test_other_errors_are_raised() -> None:
    with pytest.raises(RuntimeError, match="bug"), one_line_errors():
        raise RuntimeError("bug")
