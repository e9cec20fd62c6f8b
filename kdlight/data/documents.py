"""Documents, as strings: from the standard library, from files, from Hugging Face datasets."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

HUB = "hf:"


def read_documents(
    files: Sequence[str] | str | None = None, *, text_field: str = "text"
) -> list[str]:
    """All documents of ``files``, in order; a text that comes twice is one document.

    Args:
        files: None for the help texts of Python's standard library (``pydoc_data.topics``: 78
            documents of English, about 113,000 tokens, on every machine), or one or several of

            - a path or glob of ``.jsonl`` files: one document a line, in its ``text_field``;
            - a path or glob of other files: one document a file;
            - ``hf:NAME``, ``hf:NAME:SPLIT`` or ``hf:OWNER/NAME/CONFIG:SPLIT``: a dataset of the
              Hugging Face hub (needs the extra ``data``), by default its split ``train``.
        text_field: the field of a line or row that holds the text.

    Raises:
        ValueError: a file is missing, empty or no text, or a line has no such field.

    Example:
        >>> len(read_documents())
        78
    """
    if files is None:
        texts: Iterable[str] = _standard_library()
    else:
        names = [files] if isinstance(files, str) else list(files)
        if not names:
            raise ValueError("files=[] names no file; None stands for the standard library's texts")
        texts = (text for name in names for text in _read(name, text_field))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _standard_library() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def _read(name: str, text_field: str) -> Iterator[str]:
    if name.startswith(HUB):
        yield from _from_hub(name, text_field)
        return
    pattern = str(Path(name).expanduser())
    paths = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
    if not paths:
        raise ValueError(f"files: no file fits {name!r}")
    for path in map(Path, paths):
        if path.is_dir() and len(paths) > 1:  # `**` fits folders too
            continue
        yield from _from_file(path, text_field)


def _from_file(path: Path, text_field: str) -> list[str]:
    if not path.is_file():
        what = "is a folder, name the files in it by a glob" if path.is_dir() else "does not exist"
        raise ValueError(f"files: {path} {what}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"files: {path} is not UTF-8 text: {error}") from error
    if not text.strip():
        raise ValueError(f"files: {path} is empty")
    if path.suffix != ".jsonl":
        return [text]
    # not splitlines(), which also splits at separators that JSON allows inside a string
    lines = enumerate(text.split("\n"), start=1)
    return [_field(line, path, number, text_field) for number, line in lines if line.strip()]


def _field(line: str, path: Path, number: int, text_field: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"files: {path}, line {number} is not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get(text_field), str):
        found = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"files: {path}, line {number} has no text in field {text_field!r}, found {found}; set"
            " text_field"
        )
    return row[text_field]


def _from_hub(name: str, text_field: str) -> Iterator[str]:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"files: {name!r} needs the package 'datasets': pip install 'kdlight[data]'"
        ) from error
    path, _, split = name.removeprefix(HUB).partition(":")
    owner_name, config = path, None
    if path.count("/") == 2:
        owner_name, config = path.rsplit("/", 1)
    try:
        rows = load_dataset(owner_name, config, split=split or "train")
    except Exception as error:  # the hub fails in many ways, with errors of many libraries
        raise ValueError(f"files: cannot load {name!r}: {error}") from error
    if text_field not in rows.column_names:
        raise ValueError(
            f"files: {name!r} has no column {text_field!r}, found {rows.column_names}; set"
            " text_field"
        )
    yield from rows[text_field]
