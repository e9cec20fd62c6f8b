"""A file of JSON lines that is written in batches and survives interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdlight.data.written_files import append_bytes, exclusive, write_files

VERSION = 2
"""Version of the files; those of version 1 do not tell which line is which."""


class Journal:
    """A file of lines in complete batches, of which each line has a key.

    When it is opened, the file is mended: lines that are not complete, that stand there twice, or
    that belong to no key, are removed, and so is what follows the first key that is missing, up to
    complete batches. The settings of the run are written to a second file, ``NAME.settings.json``,
    so that no file mixes the lines of two runs.

    Args:
        path: the file.
        keys: the key of each line of the complete file, in order.
        key_of: returns the key of the JSON object in a line.
        batch_size: number of lines in a batch; the last batch may have fewer.
        settings: everything that determines the lines, as data that JSON can represent.

    Raises:
        ValueError: If the file was started with other settings, or is not a journal.

    Attributes:
        done: number of lines in the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        keys: Sequence[Hashable],
        key_of: Callable[[Mapping[str, Any]], Hashable],
        batch_size: int,
        settings: Mapping[str, Any],
    ) -> None:
        self.path = Path(path)
        run = {"batch_size": batch_size, "total": len(keys), "version": VERSION}
        self._check_settings({**settings, **run})
        self.done = self._mend(keys, key_of, batch_size)

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, **options: Any) -> Iterator[Journal]:
        """Open a journal that no other process can open at the same time.

        Args:
            path: the file.
            **options: the other arguments of a journal.

        Raises:
            ValueError: If another process has it open.
        """
        with exclusive(Path(path)):
            yield cls(path, **options)

    def append(self, lines: Sequence[str]) -> None:
        """Write a batch, and wait until it is on disk."""
        append_bytes(self.path, "".join(line + "\n" for line in lines).encode())
        self.done += len(lines)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        settings_path = self.path.with_name(self.path.name + ".settings.json")
        settings = json.loads(json.dumps(settings))
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.path} is not a file that can be continued; use another name")
        if not settings_path.exists():
            if self.path.exists():
                raise ValueError(
                    f"{self.path} exists, but {settings_path.name} does not, so it was not started"
                    " by kdlight; use another name"
                )
            write_files({settings_path: json.dumps(settings, indent=1).encode()})
            return
        saved = _read_object(settings_path)
        different = [
            f"{name}: {saved.get(name)!r} in the file, {value!r} now"
            for name, value in settings.items()
            if saved.get(name) != value
        ]
        if different:
            raise ValueError(
                f"{self.path} was started with other settings ({'; '.join(different)}); use"
                f" those settings or another name, or remove it together with {settings_path.name}"
            )

    def _mend(
        self,
        keys: Sequence[Hashable],
        key_of: Callable[[Mapping[str, Any]], Hashable],
        batch_size: int,
    ) -> int:
        """Keep the lines of complete batches, each once and in order; return their number."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        lines: dict[Hashable, bytes] = {}
        for line in content.split(b"\n")[:-1]:  # the last one is empty, or not complete
            lines.setdefault(_key(line, key_of), line)
        done = next((i for i, key in enumerate(keys) if key not in lines), len(keys))
        if done < len(keys):
            done -= done % batch_size
        mended = b"".join(lines[key] + b"\n" for key in keys[:done])
        if mended != content:
            write_files({self.path: mended})
        return done


def _key(line: bytes, key_of: Callable[[Mapping[str, Any]], Hashable]) -> Hashable:
    try:
        key = key_of(json.loads(line))
        hash(key)
        return key
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged: {error}; remove it together with the file that it belongs to"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} must hold a JSON object, got {type(value).__name__}; remove it together with"
            " the file that it belongs to"
        )
    return value
