"""A mapping is given as it is or as a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces.mappings import as_mapping, check_same_keys


def test_a_file_is_the_mapping_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    mapping = {"ä": 1, "b": None}
    path.write_text(json.dumps(mapping))
    assert as_mapping("samples", str(path)) == as_mapping("samples", path) == mapping
    assert as_mapping("samples", mapping) == mapping


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ("[1]", "must hold a JSON object, got list"),
        ("{", "is not JSON that can be read"),
        ("[" * 100_000, "is not JSON that can be read"),
        ("", "is empty"),
        ("{}", "must hold at least one entry"),
    ],
    ids=["twice", "list", "cut", "depth", "empty", "none"],
)
def test_a_file_that_holds_none_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"^samples.*{message}"):
        as_mapping("samples", str(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("none.json", "samples: none.json does not exist"),
        ({}, "samples must hold at least one entry"),
        ({1: 2}, "a key of samples must be a text, got 1"),
        ({"\ud800": 2}, "a key of samples is not valid Unicode"),
        ([1], "samples must be a mapping"),
        (None, "samples must be a mapping"),
    ],
    ids=range(6),
)
def test_what_is_none_is_named(value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        as_mapping("samples", value)


def test_ids_that_one_of_two_lacks_are_named() -> None:
    check_same_keys("one", {"a": 1}, "other", {"a": 2})
    with pytest.raises(ValueError, match="'b' and 1 more are only in one"):
        check_same_keys("one", {"a": 1, "c": 1, "b": 1}, "other", {"a": 2, "d": 1})
    with pytest.raises(ValueError, match="'b' is only in other"):
        check_same_keys("one", {"a": 1}, "other", {"a": 2, "b": 1})
