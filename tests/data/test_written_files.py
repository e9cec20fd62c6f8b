"""Files are written whole or not at all, and by one process at a time."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.written_files import append_bytes, exclusive, write_files


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let files be no larger than ``room`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_files_are_replaced_together_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    write_files({first: b"old", second: b"old"})
    with full_disk(1000), pytest.raises(OSError, match=f"cannot write {second}: "):
        write_files({first: b"new", second: b"x" * 2000})
    assert (first.read_bytes(), second.read_bytes()) == (b"old", b"old")
    assert sorted(tmp_path.iterdir()) == [first, second]
    write_files({first: b"new", second: b"x" * 2000})
    assert (first.read_bytes(), second.read_bytes()) == (b"new", b"x" * 2000)


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "place")
    write_files({link: b"text", Path("/dev/null"): b"text"})
    assert link.is_symlink()
    assert (tmp_path / "place").read_bytes() == b"text"
    assert Path("/dev/null").is_char_device()


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="cannot write .*/file/inside: "):
        write_files({tmp_path / "file" / "inside": b""})
    with full_disk(10), pytest.raises(OSError, match="cannot write .*/file: ") as failure:
        append_bytes(tmp_path / "file", b"x" * 100)
    assert failure.value.errno == errno.EFBIG
    with pytest.raises(OSError, match="cannot write .*/file: "):
        append_bytes(tmp_path / "file" / "file", b"x")


def test_one_process_holds_a_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.jsonl"
    code = f"""
from pathlib import Path
from kdlight.data.written_files import exclusive
with exclusive(Path({str(path)!r})):
    print("held", flush=True)
    input()
"""
    command = [sys.executable, "-c", code]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"another process writes {path}"), exclusive(path):
            pass
        process.kill()  # the system releases the lock
        process.wait()
    with exclusive(path):
        pass


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.warns(UserWarning, match="cannot be locked .*one process"),
        exclusive(tmp_path / "t"),
    ):
        pass
