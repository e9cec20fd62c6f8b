"""Mappings from prompt ids and other texts, which may be given by the name of a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdlight.checks import check_type
from kdlight.data.files import read_text
from kdlight.data.traces.trace_checks import check_text


def as_mapping(name: str, value: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Return a mapping with texts as keys, which a JSON file may hold.

    Args:
        name: name of the argument, for messages.
        value: the mapping, or the path of a file with one JSON object.

    Raises:
        TypeError: If it is neither, or a key is no text.
        ValueError: If it is empty, or the file is missing, not JSON, no object, or has a key twice.

    Example:
        >>> as_mapping("samples", {"sum": 4})
        {'sum': 4}
    """
    check_type(name, value, (Mapping, str, Path), "a mapping, or the path of a JSON file with one")
    if not isinstance(value, Mapping):
        value = _read(name, Path(value).expanduser())
    for key in value:
        check_text(f"a key of {name}", key)
    if not value:
        raise ValueError(f"{name} must hold at least one entry, got none")
    return dict(value)


def check_same_keys(
    one: str, first: Mapping[str, Any], other: str, second: Mapping[str, Any]
) -> None:
    """Raise an error where two mappings do not have the same prompt ids.

    Raises:
        ValueError: If one has an id that the other one lacks.

    Example:
        >>> check_same_keys("samples", {"a": 1}, "prompts", {"a": 1, "b": 2})
        Traceback (most recent call last):
        ValueError: samples and prompts must have the same prompt ids, but 'b' is only in prompts
    """
    for this, mine, theirs in ((one, first, second), (other, second, first)):
        alone = sorted(mine.keys() - theirs.keys())
        if alone:
            raise ValueError(
                f"{one} and {other} must have the same prompt ids, but {alone[0]!r}"
                f"{f' and {len(alone) - 1} more are' if len(alone) > 1 else ' is'} only in {this}"
            )


def _read(name: str, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, entry in pairs:
            if key in entries:
                raise ValueError(f"it has the key {key!r} twice")
            entries[key] = entry
        return entries

    try:
        text = read_text(path)
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).removeprefix('files: ')}") from error
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {path} is not JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name}: {path} must hold a JSON object, got {type(value).__name__}")
    return value
