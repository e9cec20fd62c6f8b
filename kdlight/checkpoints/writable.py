"""Find out before a run whether its results can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def check_writable(folder: str | Path) -> None:
    """Raise an OSError if a file cannot be written to a folder, which need not exist.

    A small file is written and removed again, with the folders that had to be made for it:
    permissions alone do not tell of a file system that is read-only or full.

    Args:
        folder: the folder; a remote one, with ``://`` in it, is not tried.

    Raises:
        OSError: The folder, or a file in it, cannot be made.

    Example:
        >>> check_writable(__file__)
        Traceback (most recent call last):
        OSError: cannot write to '...': ...
    """
    if "://" in str(folder):
        return
    folder = Path(folder)
    made: list[Path] = []
    try:
        for parent in reversed([folder, *folder.parents]):
            if not parent.exists():
                parent.mkdir(exist_ok=True)
                made.append(parent)
        descriptor, probe = tempfile.mkstemp(prefix=".kdlight-probe-", dir=folder)
        made.append(Path(probe))
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(4096))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot write to {str(folder)!r}: {reason}; name another folder") from error
    finally:
        _remove(made)


def writable_folder(folders: Iterable[str | Path]) -> Path:
    """Return the first folder that can be written to, or else a new temporary one.

    Example:
        >>> writable_folder([__file__, tempfile.gettempdir()]).name == Path(
        ...     tempfile.gettempdir()
        ... ).name
        True
    """
    for folder in folders:
        try:
            check_writable(folder)
        except OSError:
            continue
        return Path(folder)
    return Path(tempfile.mkdtemp(prefix="kdlight-"))


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except OSError:  # another process has put something there
            return
