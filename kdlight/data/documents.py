"""Documents as strings: from the standard library, from files, from Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlight.checks import check_type
from kdlight.data.files import file_names, matching_files, read_json_lines, read_text
from kdlight.data.hub import HUB, load_hub_dataset


def read_documents(
    files: Sequence[str] | str | None = None, *, text_field: str = "text"
) -> list[str]:
    """Read all documents of ``files``, in order and without duplicates.

    Args:
        files: None for the help texts of Python's standard library (``pydoc_data.topics``: 78
            documents of English, about 113,000 tokens, on every machine), or one or several of

            - a path or glob of ``.jsonl`` files: one document per line, in its ``text_field``;
            - a path or glob of other files: one document per file;
            - ``package:NAME/GLOB``: files in an installed Python package, which is not imported;
            - ``hf:NAME``, ``hf:NAME:SPLIT`` or ``hf:OWNER/NAME/CONFIG:SPLIT``: a dataset of the
              Hugging Face hub (needs the extra ``data``), by default its split ``train``.
        text_field: the field of a line or row that holds the text.

    Raises:
        TypeError: If ``files`` or ``text_field`` are of another kind.
        ValueError: If a file is missing, empty or not text, or a line has no such field.

    Example:
        >>> len(read_documents())
        78
    """
    check_type("text_field", text_field, str, "a text")
    if files is None:
        texts: Iterable[str] = _standard_library()
    else:
        texts = (text for name in file_names("files", files) for text in _read(name, text_field))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _standard_library() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def _read(name: str, text_field: str) -> Iterator[str]:
    if name.startswith(HUB):
        yield from _from_hub(name, text_field)
        return
    for path in matching_files(name):
        yield from _from_file(path, text_field)


def _from_file(path: Path, text_field: str) -> Iterator[str]:
    if path.suffix == ".jsonl":
        for location, row in read_json_lines(path):
            yield _field(row, location, text_field)
    else:
        yield read_text(path)


def _field(row: Mapping[str, Any], location: str, text_field: str) -> str:
    if not isinstance(row.get(text_field), str):
        raise ValueError(
            f"files: {location} has no text in field {text_field!r}, its fields are {sorted(row)};"
            " set text_field"
        )
    return row[text_field]


def _from_hub(name: str, text_field: str) -> Iterator[str]:
    rows = load_hub_dataset(name)
    if text_field not in rows.column_names:
        raise ValueError(
            f"files: {name!r} has no column {text_field!r}, its columns are {rows.column_names};"
            " set text_field"
        )
    for number, text in enumerate(rows[text_field]):
        check_type(f"files: {name}, row {number}: {text_field}", text, str, "a text")
        yield text
