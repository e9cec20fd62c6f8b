"""Traces from files of JSON lines and from Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdlight.data.files import file_names, matching_files, read_json_lines
from kdlight.data.hub import HUB, load_hub_dataset
from kdlight.data.traces.formats import to_traces
from kdlight.data.traces.trace import Trace


def read_traces(files: Sequence[str] | str) -> list[Trace]:
    """Read all traces of ``files``, in order.

    Args:
        files: one or several of

            - a path or glob of ``.jsonl`` files, with rows as `to_traces` reads them;
            - ``hf:NAME``, ``hf:NAME:SPLIT`` or ``hf:OWNER/NAME/CONFIG:SPLIT``: a dataset of the
              Hugging Face hub, or ``hf:PATH`` for the folder of a dataset (needs the extra
              ``data``), by default its split ``train``.

    Raises:
        ValueError: If a file is missing, empty or not JSON lines, or a row has no trace or a field
            of another kind; with file and line.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> with NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write('{"prompt": "1 + 1 =", "chosen": "2", "rejected": "3"}')
        ...     file.flush()
        ...     [(trace.response, trace.score) for trace in read_traces(file.name)]
        [('2', 1.0), ('3', 0.0)]
    """
    traces = []
    for name in file_names("files", files):
        for location, row in read_rows(name):
            try:
                traces += to_traces(row)
            except (ValueError, TypeError, LookupError) as error:
                raise ValueError(f"files: {location}: {error}") from error
    return traces


def read_rows(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the location and the content of each row of a file, glob or dataset."""
    if name.startswith(HUB):
        for number, row in enumerate(load_hub_dataset(name)):
            yield f"{name}, row {number}", row
    else:
        for path in matching_files(name):
            yield from read_json_lines(path)
