"""The traces that rounds made, in a file that grows by a round at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from kdlight.data.traces.trace import Trace, to_lines
from kdlight.data.written_files import write_files


class Pool:
    """Traces as JSON lines in ``pool.jsonl`` of a folder, in the order in which they were made.

    The file is replaced as a whole, so that a process that is killed leaves the traces of complete
    rounds. One process writes it.

    Args:
        folder: the folder, which need not exist.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     pool = Pool(Path(folder))
        ...     pool.add([Trace("1 + 1 =", "2")])
        ...     [trace.response for trace in pool.read()], pool.state()["traces"]
        (['2'], 1)
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pool.jsonl"

    def add(self, traces: Sequence[Trace]) -> None:
        """Write further traces at the end of the file."""
        write_files({self.path: self._bytes() + to_lines(traces)})

    def read(self) -> list[Trace]:
        """Return all traces."""
        return [from_json(line.decode()) for line in self._lines()]

    def state(self) -> dict[str, Any]:
        """Return the number of traces and a hash of the file."""
        return _state(self._lines())

    def restore(self, state: dict[str, Any]) -> None:
        """Remove the traces of rounds after those of ``state``.

        Raises:
            ValueError: If the file does not begin with the traces of ``state``.
        """
        kept = self._first(state)
        if len(kept) < len(self._lines()):
            write_files({self.path: b"".join(kept)})

    def begin_like(self, other: Pool, state: dict[str, Any]) -> None:
        """Begin this file with the traces of ``state`` of another one, which is not changed.

        Raises:
            ValueError: If the other file does not begin with the traces of ``state``.
        """
        write_files({self.path: b"".join(other._first(state))})

    def _first(self, state: dict[str, Any]) -> list[bytes]:
        lines = self._lines()
        kept = lines[: state["traces"]]
        if _state(kept) != state:
            raise ValueError(
                f"{self.path} must begin with the {state['traces']} traces that it had when the"
                f" checkpoint was written, but it {'has others' if lines else 'is missing'}; put"
                " the folder of that run back, and name it by `directory`"
            )
        return kept

    def _bytes(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _lines(self) -> list[bytes]:
        return self._bytes().splitlines(keepends=True)


def _state(lines: Sequence[bytes]) -> dict[str, Any]:
    return {"traces": len(lines), "hash": sha256(b"".join(lines)).hexdigest()[:16]}


def from_json(line: str) -> Trace:
    """Return the trace that `Trace.to_json` wrote.

    Example:
        >>> from_json(Trace("1 + 1 =", "2").to_json()).response
        '2'
    """
    return Trace(**json.loads(line))
