"""Traces with filled fields, written to a file of JSON lines that survives interruption."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kdlight.data.traces.journal import Journal
from kdlight.data.traces.scoring.fillers import Filler
from kdlight.data.traces.scoring.report import Report
from kdlight.data.traces.trace import Trace


def write_filled(
    traces: Sequence[Trace],
    output: Path,
    fillers: Sequence[Filler],
    *,
    settings: Mapping[str, Any],
    batch_size: int,
) -> Report:
    """Fill fields of traces, and write them in batches, in order; an earlier run is continued.

    Args:
        traces: traces.
        output: path of the file.
        fillers: what fills a field each.
        settings: everything that determines the values but the traces.
        batch_size: number of traces that are filled and written at once.

    Raises:
        ValueError: If the file was started with other traces or settings, or is written by another
            process.
    """
    fields = [filler.field for filler in fillers]
    keys, digest, key_of = [], sha256(), KeyOf(fields)
    for trace in traces:
        line = trace.to_json()
        digest.update(f"{line}\n".encode())
        keys.append(key_of(json.loads(line)))
    run = {**settings, "traces": digest.hexdigest()[:16]}
    with Journal.open(
        output, keys=keys, key_of=KeyOf(fields), batch_size=batch_size, settings=run
    ) as journal:
        values = _read_values(journal, fields)
        for filler, column in zip(fillers, _columns(values, fillers), strict=True):
            filler.recall(traces[: journal.done], column)
        with tqdm(total=len(traces), initial=journal.done, desc="scoring traces", delay=2) as bar:
            while batch := traces[journal.done : journal.done + batch_size]:
                found = [filler.values(batch) for filler in fillers]
                rows = [dict(zip(fields, row, strict=True)) for row in zip(*found, strict=True)]
                filled = (replace(trace, **row) for trace, row in zip(batch, rows, strict=True))
                journal.append([trace.to_json() for trace in filled])
                values += [tuple(row.values()) for row in rows]
                bar.update(len(batch))
    return _report(traces, values, output, fillers)


def _read_values(journal: Journal, fields: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the values in the lines that an earlier run wrote."""
    if not journal.done:
        return []
    with journal.path.open("rb") as file:
        rows = map(json.loads, islice(file, journal.done))
        return [tuple(row.get(field) for field in fields) for row in rows]


def _columns(
    values: Sequence[tuple[Any, ...]], fillers: Sequence[Filler]
) -> list[list[float | None]]:
    """Return the values of each filler."""
    return [[row[number] for row in values] for number in range(len(fillers))]


def _report(
    traces: Sequence[Trace],
    values: Sequence[tuple[Any, ...]],
    output: Path,
    fillers: Sequence[Filler],
) -> Report:
    filled, missing = {}, Counter[tuple[str, str]]()
    for filler, column in zip(fillers, _columns(values, fillers), strict=True):
        filled[filler.field] = sum(value is not None for value in column)
        for trace, value in zip(traces, column, strict=True):
            if value is None:
                missing[filler.field, filler.why_none(trace)] += 1
    notes = [note for filler in fillers for note in filler.notes]
    return Report(output, len(traces), filled, missing, notes)


class KeyOf:
    """Keys of lines: what they hold without the fields to fill, and how often it stood before.

    The second part tells equal traces apart. An instance is called with the lines of one file, in
    order.

    Args:
        fields: the fields to fill.

    Example:
        >>> key_of = KeyOf(["n_tokens"])
        >>> keys = [key_of({"prompt": text, "n_tokens": n}) for text, n in (("a", 1), ("a", 2))]
        >>> [number for _, number in keys], keys[0][0] == keys[1][0]
        ([1, 2], True)
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = frozenset(fields)
        self.seen = Counter[str]()

    def __call__(self, row: Mapping[str, Any]) -> tuple[Hashable, int]:
        """Return the key of the next line."""
        kept = {name: value for name, value in row.items() if name not in self.fields}
        digest = sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        self.seen[digest] += 1
        return digest, self.seen[digest]
