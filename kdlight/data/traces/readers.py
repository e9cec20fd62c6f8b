"""Traces from files of JSON lines and from Hugging Face datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from kdlight.data.files import file_names, matching_files, read_json_lines
from kdlight.data.hub import HUB, load_hub_dataset
from kdlight.data.traces.formats import to_traces, why_no_trace
from kdlight.data.traces.trace import Trace


def read_traces(files: Sequence[str] | str) -> list[Trace]:
    """Read all traces of ``files``, in order.

    Args:
        files: one or several of

            - a path or glob of ``.jsonl`` files, with rows as `to_traces` reads them;
            - ``hf:NAME``, ``hf:NAME:SPLIT`` or ``hf:OWNER/NAME/CONFIG:SPLIT``: a dataset of the
              Hugging Face hub, or ``hf:PATH`` for the folder of a dataset (needs the extra
              ``data``), by default its split ``train``.

    Rows without a trace, such as those of problems that are not valid, are counted in a warning.
    A file of no lines, as ``kdlight traces verify`` can write, has no traces.

    Raises:
        ValueError: If a file is missing or not JSON lines, or a row has no trace or a field of
            another kind, with file and line; a file is named twice; all files are empty, or have
            only rows without a trace.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write('{"prompt": "1 + 1 =", "chosen": "2", "rejected": "3"}')
        ...     file.flush()
        ...     [(trace.response, trace.score) for trace in read_traces(file.name)]
        [('2', 1.0), ('3', 0.0)]
    """
    names = file_names("files", files)
    check_different(names)
    traces, rows, left_out = [], 0, Counter[str]()
    for name in names:
        for location, row in read_rows(name):
            rows += 1
            try:
                found = to_traces(row)
                traces += found
                if not found:
                    left_out[why_no_trace(row)] += 1
            except (ValueError, TypeError, LookupError) as error:
                raise ValueError(f"files: {location}: {error}") from error
    shown = ", ".join(names)
    if not rows:
        raise ValueError(f"files: {shown} is empty")
    if left_out:
        why = ", ".join(f"{count:,} with {reason}" for reason, count in sorted(left_out.items()))
        message = f"files: {left_out.total():,} of {rows:,} rows of {shown} have no trace: {why}"
        if not traces:
            raise ValueError(message)
        rank_zero_warn(f"{message}; they are left out")
    return traces


def check_different(names: Sequence[str]) -> None:
    """Raise an error if two names, such as globs that overlap, name the same file or dataset.

    Its traces would be counted twice.

    Raises:
        ValueError: If so, or if no file matches a glob.
    """
    first_names: dict[str, str] = {}
    for name in names:
        places = [name] if name.startswith(HUB) else map(Path.resolve, matching_files(name))
        for place in map(str, places):
            if place in first_names:
                raise ValueError(
                    f"files: {place} is named twice, by {first_names[place]!r} and by {name!r}, so"
                    " its traces would be counted twice; name it once"
                )
            first_names[place] = name


def read_rows(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the location and the content of each row of a file, glob or dataset."""
    if name.startswith(HUB):
        for number, row in enumerate(load_hub_dataset(name)):
            yield f"{name}, row {number}", row
    else:
        for path in matching_files(name):
            if not (path.is_file() and path.stat().st_size == 0):
                yield from read_json_lines(path)
