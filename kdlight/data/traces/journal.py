"""A file of JSON lines that is written batch by batch and survives being killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Journal:
    """Lines in whole batches; what a kill left of a batch is removed when it is opened again.

    The settings that the lines were made with stand beside it, so that no file holds the work of
    two runs.

    Args:
        path: the file.
        batch_size: lines of a batch; the last one may have fewer.
        total: lines of the whole file.
        settings: what decides about the lines, as plain data.

    Raises:
        ValueError: the file was begun with other settings, or is not one of ours.
    """

    def __init__(
        self, path: str | Path, *, batch_size: int, total: int, settings: Mapping[str, Any]
    ) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._check({**settings, "batch_size": batch_size, "total": total})
        self.done = self._repair(batch_size, total)

    def append(self, lines: Sequence[str]) -> None:
        """Write a batch; it is on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write("".join(line + "\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        self.done += len(lines)

    def _check(self, settings: dict[str, Any]) -> None:
        beside = self.path.with_name(self.path.name + ".settings.json")
        settings = json.loads(json.dumps(settings))
        if beside.exists():
            begun = json.loads(beside.read_text())
            other = [
                f"{k}: {begun.get(k)!r} there, {v!r} now"
                for k, v in settings.items()
                if begun.get(k) != v
            ]
            if other:
                raise ValueError(
                    f"{self.path} was begun with other settings ({'; '.join(other)}); give it"
                    f" those, another name, or remove it together with {beside.name}"
                )
            return
        if self.path.exists():
            raise ValueError(f"{self.path} exists and was not begun here; give another name")
        scratch = beside.with_name(beside.name + ".part")
        scratch.write_text(json.dumps(settings, indent=1))
        scratch.replace(beside)  # whole, or not there at all

    def _repair(self, batch_size: int, total: int) -> int:
        """Cut what does not belong to a whole batch, and count the lines that stay."""
        if not self.path.exists():
            return 0
        text = self.path.read_bytes()
        ends = [i + 1 for i, byte in enumerate(text) if byte == ord("\n")]
        whole = len(ends) if len(ends) == total else len(ends) // batch_size * batch_size
        with self.path.open("r+b") as file:
            file.truncate(ends[whole - 1] if whole else 0)
        return whole
