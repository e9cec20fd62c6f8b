"""Files that are written whole or not at all, and files that one process writes at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NoReturn
from warnings import warn


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files so that their old contents stay if anything fails before all are on disk.

    Each is written beside its place and then renamed. Folders are created.

    Raises:
        OSError: If a file cannot be written, with its path.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "new", "a.txt")
        ...     write_files({path: b"text"})
        ...     path.read_text(), len(list(path.parent.iterdir()))
        ('text', 1)
    """
    renamed: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with _named_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                place = Path(os.path.realpath(path))  # a link stays a link
                if place.exists() and not place.is_file():
                    place.write_bytes(content)  # such as /dev/stdout, which has no old content
                    continue
                unfinished = place.with_name(f"{place.name}.{os.getpid()}.unfinished")
                renamed[unfinished] = place
                with unfinished.open("wb") as file:
                    write_out(file, content)
        for unfinished, place in renamed.items():
            with _named_errors(place):
                unfinished.replace(place)
                _sync_folder(place.parent)
    finally:
        for unfinished in renamed:
            with suppress(OSError):
                unfinished.unlink()


def write_out(file: IO[bytes], content: bytes) -> None:
    """Write bytes to a file, and wait until they are on disk."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def append_bytes(path: Path, content: bytes) -> None:
    """Append bytes to a file, and wait until they are on disk.

    Raises:
        OSError: If the file cannot be written, with its path.
    """
    with _named_errors(path), path.open("ab") as file:
        write_out(file, content)


def _sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk, so that they survive a power failure."""
    if os.name == "nt":  # where folders cannot be opened
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _raise_named(path, error)


def _raise_named(path: Path, error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    raise type(error)(error.errno, f"cannot write {path}: {reason}") from error


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a file, ``NAME.lock`` beside it, which other processes cannot get meanwhile.

    The system releases the lock of a process that ends in any way. The file of the lock stays.

    Raises:
        ValueError: If another process holds the lock.
    """
    lock = path.with_name(f"{path.name}.lock")
    with _named_errors(lock):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    with file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError) as error:
            raise ValueError(
                f"another process writes {path} at this moment; wait until it has finished, or use"
                " another name"
            ) from error
        except OSError as error:
            warn(f"{path} cannot be locked ({error}): let only one process write it", stacklevel=2)
        yield


def _lock(file: IO[bytes]) -> None:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError:  # Windows
        from msvcrt import LK_NBLCK, locking  # type: ignore[attr-defined]

        locking(file.fileno(), LK_NBLCK, 1)
    else:
        flock(file, LOCK_EX | LOCK_NB)
