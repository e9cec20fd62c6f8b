"""Traces from files of JSON lines and from Hugging Face datasets."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kdlight.data.documents import HUB
from kdlight.data.traces.formats import to_traces
from kdlight.data.traces.record import Trace


def read_traces(files: Sequence[str] | str) -> list[Trace]:
    """All traces of ``files``, in order.

    Args:
        files: one or several of

            - a path or glob of ``.jsonl`` files, with rows as `to_traces` reads them;
            - ``hf:NAME``, ``hf:NAME:SPLIT`` or ``hf:OWNER/NAME/CONFIG:SPLIT``: a dataset of the
              Hugging Face hub, or ``hf:PATH`` for a folder of one (needs the extra ``data``), by
              default its split ``train``.

    Raises:
        ValueError: a file that is missing, empty or not JSON lines, or a row without a trace.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write('{"prompt": "1 + 1 =", "chosen": "2", "rejected": "3"}')
        ...     file.flush()
        ...     [(trace.response, trace.score) for trace in read_traces(file.name)]
        [('2', 1.0), ('3', 0.0)]
    """
    names = [files] if isinstance(files, str) else list(files)
    if not names:
        raise ValueError("files=[] names no file")
    traces = []
    for name in names:
        rows = _hub_rows(name) if name.startswith(HUB) else _file_rows(name)
        for where, row in rows:
            try:
                traces += to_traces(row)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"files: {where}: {error}") from error
    return traces


def read_rows(name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of a file, glob or dataset, each with where it stands."""
    return list(_hub_rows(name) if name.startswith(HUB) else _file_rows(name))


def _file_rows(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    pattern = str(Path(name).expanduser())
    paths = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
    if not paths:
        raise ValueError(f"files: no file fits {name!r}")
    for path in map(Path, paths):
        if not path.is_file():
            raise ValueError(f"files: {path} does not exist or is no file")
        lines = path.read_text(encoding="utf-8").split("\n")
        if not any(line.strip() for line in lines):
            raise ValueError(f"files: {path} is empty")
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _row(line, where)


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"files: {where} is not JSON: {error}") from error
    if not isinstance(row, Mapping):
        raise ValueError(f"files: {where} is {type(row).__name__}, expected an object")
    return row


def _hub_rows(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"files: {name!r} needs the package 'datasets': pip install 'kdlight[data]'"
        ) from error
    path, _, split = name.removeprefix(HUB).partition(":")
    owner_name, config = path, None
    if path.count("/") == 2 and not Path(path).exists():
        owner_name, config = path.rsplit("/", 1)
    try:
        rows = load_dataset(owner_name, config, split=split or "train")
    except Exception as error:  # the hub fails in many ways, with errors of many libraries
        raise ValueError(f"files: cannot load {name!r}: {error}") from error
    for number, row in enumerate(cast("Iterable[Mapping[str, Any]]", rows)):
        yield f"{name}, row {number}", row
