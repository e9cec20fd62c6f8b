"""Files that a command for traces reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdlight.data.files import file_names, matching_files
from kdlight.data.hub import HUB


def check_outputs(files: Sequence[str], outputs: Sequence[Path]) -> None:
    """Raise an error where a file to write is one to read, whose other traces would be lost.

    Raises:
        ValueError: If an output is among the files, or is a folder.
    """
    read = {
        path.resolve()
        for name in file_names("files", files)
        if not name.startswith(HUB)
        for path in matching_files(name)
    }
    for path in outputs:
        if path.is_dir():
            raise ValueError(f"output: {path} is a folder; name a file")
        if path.resolve() in read:
            raise ValueError(
                f"output: {path} would be written, but is also read as one of the files; use"
                " another folder"
            )
