"""What a run filled, and what it could not fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """What a run filled.

    Attributes:
        path: the file.
        total: number of traces in it.
        filled: number of traces with a value, by field.
        missing: number of traces without one, by field and reason.
        notes: what else there is to say.
    """

    path: Path
    total: int
    filled: Mapping[str, int]
    missing: Mapping[tuple[str, str], int]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        fields = []
        for field, count in self.filled.items():
            lacking = [f"{why}: {n:,}" for (name, why), n in self.missing.items() if name == field]
            without = f" (without, {', '.join(sorted(lacking))})" if lacking else ""
            fields.append(f"{field} of {count:,}{without}")
        return "; ".join([f"{self.total:,} traces, {', '.join(fields)}", *self.notes])
