"""Functions are found by name, in modules and in files."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces.functions import find_function

KNOWN: dict[str, Any] = {"exact": max, "number": min}


def find(name: Any, known: Any = KNOWN) -> Any:
    return find_function(name, known, what="verifier", does="from a Trace to a score")


def test_a_path_may_have_a_colon_and_a_broken_file_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "C:"
    folder.mkdir()
    (folder / "own_verifier.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        find(f"{folder / 'own_verifier.py'}:f")
    assert "own_verifier" not in sys.modules
    (folder / "own_verifier.py").write_text("def f(x):\n    return 333\n")
    assert find(f"{folder / 'own_verifier.py'}:f")(None) == 333


def test_a_function_is_returned_as_it_is_and_a_name_is_found(tmp_path: Path) -> None:
    assert find(len) is len
    assert find("exact") is max
    assert find("math:sqrt") is math.sqrt
    (tmp_path / "mine.py").write_text("def f(x):\n    return 3\n")
    assert find(f"{tmp_path / 'mine.py'}:f")(None) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exakt", r"no verifier 'exakt' \(no such name\); known: exact, or your own as module:fun"),
        ("math:nothing", "no verifier 'math:nothing'.*AttributeError.*known: exact, number"),
        ("math:pi", "it is 3.14.*, which is no function"),
        ("nowhere.py:f", "FileNotFoundError"),
        ("", "no such name"),
    ],
)
def test_what_is_not_found_is_named(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(name)
    with pytest.raises(ValueError, match="give your own as module:function"):
        find(name, {})
