"""A folder that cannot be written to is found by trying, and nothing is left in one that can."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from kdlight.checkpoints import check_writable, writable_folder


def test_nothing_is_left(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(OSError, match=r"cannot write to '.*file.*: .*name another folder"):
            check_writable(folder)


def test_a_file_system_that_takes_no_files_is_refused() -> None:
    with pytest.raises(OSError, match="cannot write to '/proc/kdlight'"):
        check_writable("/proc/kdlight")


def test_a_remote_folder_is_not_tried() -> None:
    check_writable("s3://bucket/folder")


def test_the_first_that_works_is_used_and_else_a_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert writable_folder([tmp_path / "file", tmp_path / "a"]) == tmp_path / "a"
    last = writable_folder([tmp_path / "file"])
    assert last.is_dir()
    assert last.parent == Path(tempfile.gettempdir())
    last.rmdir()
