"""A file of JSON lines that is written in batches and survives interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Journal:
    """A file of lines in complete batches. An incomplete batch is removed when it is opened.

    The settings of the run are written to a second file, ``NAME.settings.json``, so that no file
    mixes the lines of two runs.

    Args:
        path: the file.
        batch_size: number of lines in a batch; the last batch may have fewer.
        total: number of lines of the complete file.
        settings: everything that determines the lines, as data that JSON can represent.

    Raises:
        ValueError: If the file was started with other settings, or is not a journal.
    """

    def __init__(
        self, path: str | Path, *, batch_size: int, total: int, settings: Mapping[str, Any]
    ) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._check_settings({**settings, "batch_size": batch_size, "total": total})
        self.done = self._repair(batch_size, total)

    def append(self, lines: Sequence[str]) -> None:
        """Write a batch, and wait until it is on disk."""
        with self.path.open("ab") as file:
            file.write("".join(line + "\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        self.done += len(lines)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        settings_path = self.path.with_name(self.path.name + ".settings.json")
        settings = json.loads(json.dumps(settings))
        if settings_path.exists():
            saved = json.loads(settings_path.read_text())
            different = [
                f"{name}: {saved.get(name)!r} in the file, {value!r} now"
                for name, value in settings.items()
                if saved.get(name) != value
            ]
            if different:
                raise ValueError(
                    f"{self.path} was started with other settings ({'; '.join(different)}); use"
                    " those settings or another name, or remove it together with"
                    f" {settings_path.name}"
                )
            return
        if self.path.exists():
            raise ValueError(
                f"{self.path} exists, but {settings_path.name} does not, so it was not started by"
                " kdlight; use another name"
            )
        temporary = settings_path.with_name(settings_path.name + ".part")
        temporary.write_text(json.dumps(settings, indent=1))
        temporary.replace(settings_path)  # atomic

    def _repair(self, batch_size: int, total: int) -> int:
        """Remove an incomplete batch, and return the number of lines that remain."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
        kept = len(ends) if len(ends) == total else len(ends) // batch_size * batch_size
        with self.path.open("r+b") as file:
            file.truncate(ends[kept - 1] if kept else 0)
        return kept
