"""Verify the checksums of a checkpoint: has a byte changed since it was written?

``torch.save`` writes a zip archive without compression, with a CRC-32 of each record, which
``torch.load`` does not compare. A shard consists of such archives, one after another. So every
checkpoint has checksums already, whoever wrote it, and they cost nothing when it is written.
"""

from __future__ import annotations

import io
import mmap
import os
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from struct import unpack

from kdlight.checkpoints.shards import PlainShardReader

STEP = 2**24


def verify_checksums(path: str | Path, *, share: tuple[int, int] = (0, 1)) -> None:
    """Raise a ValueError if the bytes of a checkpoint are not those that were written.

    A file is verified once in a process, unless it changes. It takes about a second for a
    gigabyte.

    Args:
        path: a file, or a folder of shards.
        share: ``(i, n)`` verifies the i-th of n shares of the shards of a folder.

    Raises:
        ValueError: A checksum differs, or the archive cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a.ckpt"
        ...     torch.save({"weight": torch.ones(1000)}, file)
        ...     verify_checksums(file)
        ...     content = bytearray(file.read_bytes())
        ...     content[2000] ^= 1
        ...     _ = file.write_bytes(content)
        ...     verify_checksums(file)
        Traceback (most recent call last):
        ValueError: checkpoint '...a.ckpt' is damaged: 'a/data/0' is not what was written ...
    """
    path = Path(path)
    if path.is_file():
        _verify_once(path)
        return
    _verify_once(path / "meta.pt", path)
    index, count = share
    parts: dict[str, list[tuple[int, int]]] = {}
    for info in PlainShardReader(path).read_metadata().storage_data.values():
        parts.setdefault(info.relative_path, []).append((info.offset, info.length))
    for shard in sorted(parts)[index::count]:
        _verify_once(path / shard, path, tuple(sorted(parts[shard])))


def _verify_once(
    file: Path, checkpoint: Path | None = None, parts: tuple[tuple[int, int], ...] | None = None
) -> None:
    state = os.stat(file)
    damage = _damage(file, parts, state.st_size, state.st_mtime_ns)
    if damage:
        where = f" of {file.name!r}" if checkpoint else ""
        raise ValueError(
            f"checkpoint {str(checkpoint or file)!r} is damaged: {damage}{where} is not what was"
            " written (bytes have changed on the disk or on the way); use another checkpoint"
        )


@lru_cache(maxsize=4096)
def _damage(
    file: Path, parts: tuple[tuple[int, int], ...] | None, size: int, modified: int
) -> str | None:
    """Return the first record that is damaged; None if there is none."""
    if not size:
        return "the archive (it is empty)"
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        for offset, length in parts or ((0, size),):
            with view[offset : offset + length] as part:
                found = _damaged_record(part)
            if found:
                return found
    return None


def _damaged_record(archive: memoryview) -> str | None:
    try:
        wrong, total = [], 0
        for name, same in _records(archive):
            total += 1
            if not same:
                wrong.append(name)
    except Exception as error:  # damaged bytes may raise anything
        return f"the archive ({type(error).__name__}: {error})"
    # torch.serialization.set_crc32_options(False) writes none: then nothing can be said
    return repr(wrong[0]) if wrong and len(wrong) < total else None


def _records(archive: memoryview) -> Iterator[tuple[str, bool]]:
    """Yield each record that is not empty, and whether its checksum is right."""
    with zipfile.ZipFile(_Window(archive)) as opened:
        for record in opened.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{record.filename!r} is compressed")
            opened.open(record).close()  # compares the names in its two headers
            header = record.header_offset
            name_size, extra_size = unpack("<HH", archive[header + 26 : header + 30])
            start = header + 30 + name_size + extra_size
            checksum, end = 0, start + record.file_size
            if end > len(archive):
                raise ValueError(f"{record.filename!r} ends after the archive")
            for step in range(start, end, STEP):
                checksum = zlib.crc32(archive[step : min(step + STEP, end)], checksum)
            if record.file_size:
                yield record.filename, checksum == record.CRC


class _Window(io.RawIOBase):
    """A file over bytes in memory, of which only what is read is copied."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, len(self._view))[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = len(self._view) if size is None or size < 0 else self._at + size
        data = bytes(self._view[self._at : end])
        self._at += len(data)
        return data
