"""Fields of the rows of datasets that are kept in traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kdlight.checks import check_type

PROMPT_FIELDS = ("finished", "teacher", "difficulty")
"""Fields of a trace that a row can have for all of its responses."""

RESPONSE_FIELDS = (*PROMPT_FIELDS, "score", "n_tokens", "perplexity")
"""Fields of a trace that a row with one response can have."""

USED = ("answer", "tools", "meta", "prompt_id", "uuid", "id", "messages")
"""Fields of rows that are used in all formats, or repeat responses: not kept in ``meta``."""


def prompt_id(row: Mapping[str, Any]) -> str:
    """Return the prompt id of a row, from ``prompt_id``, ``uuid`` or ``id``, or an empty string."""
    ids = (row[name] for name in ("prompt_id", "uuid", "id") if row.get(name) is not None)
    return str(next(ids, ""))


def other_fields_of(row: Mapping[str, Any], used: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a row that are not used otherwise, and what its ``meta`` holds.

    What JSON cannot represent, such as an image in a dataset, is left out.

    Args:
        row: a row of a dataset.
        used: fields that are used, beside those of all formats.

    Raises:
        TypeError: If ``meta`` is no object.

    Example:
        >>> other_fields_of({"completion": "2", "level": 3, "meta": {"n": 1}}, ["completion"])
        {'level': 3, 'n': 1}
    """
    check_type("meta", row.get("meta") or {}, Mapping, "an object")
    other = {
        name: value
        for name, value in row.items()
        if isinstance(value, (str, int, float, list, tuple, Mapping)) and name not in (*USED, *used)
    }
    return other | dict(row.get("meta") or {})


def known_fields(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a trace that a row has.

    A difficulty that is a text, such as "hard", is none of a trace; it belongs to the other fields.

    Example:
        >>> known_fields({"teacher": "t", "difficulty": "hard", "level": 3}, PROMPT_FIELDS)
        {'teacher': 't'}
    """
    return {
        name: row[name]
        for name in names
        if row.get(name) is not None and not (name == "difficulty" and isinstance(row[name], str))
    }
