"""A journal keeps complete batches of one run, each line once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces.journal import Journal

LINES = [json.dumps({"key": number}) for number in range(5)]


def make(path: Path, **options: Any) -> Journal:
    defaults: dict[str, Any] = {"keys": range(5), "batch_size": 2, "settings": {"seed": 1}}
    return Journal(path, key_of=lambda row: row["key"], **{**defaults, **options})


def written(path: Path, numbers: list[int]) -> bytes:
    content = "".join(LINES[number] + "\n" for number in numbers).encode()
    path.write_bytes(content)
    return content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = make(tmp_path / "j")
    for lines in (LINES[:2], LINES[2:4], LINES[4:]):
        journal.append(lines)
    assert journal.done == 5
    return journal.path


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ([0, 1, 2, 3, 4], 5),
        ([0, 1, 2, 3], 4),
        ([0, 1, 2], 2),
        ([0], 0),
        ([], 0),
        # of two runs that wrote the same file
        ([0, 1, 2, 3, 4, 0, 1, 2, 3, 4], 5),
        ([0, 1, 0, 1, 2, 3, 2, 3, 4, 4], 5),
        ([0, 1, 0, 1], 2),
        ([2, 3, 0, 1], 4),
        ([0, 1, 4], 2),
    ],
)
def test_each_line_is_kept_once_in_complete_batches(
    path: Path, found: list[int], kept: int
) -> None:
    written(path, found)
    assert make(path).done == kept
    content = path.read_bytes()
    assert content == written(path, list(range(kept)))


@pytest.mark.parametrize(
    "tail", [b'{"key": 2', b"\xff\x00\n", b'{"key": [2]}\n', b"3\n", b'{"id": 2}\n']
)
def test_damaged_lines_are_removed(path: Path, tail: bytes) -> None:
    content = written(path, [0, 1])
    path.write_bytes(content + tail)
    assert make(path).done == 2
    assert path.read_bytes() == content


def test_a_journal_belongs_to_one_run(path: Path) -> None:
    written(path, [0, 1])
    for other in ({"settings": {"seed": 2}}, {"keys": range(6)}):
        with pytest.raises(ValueError, match=r"with other settings \((seed: 1|total: 5) in"):
            make(path, **other)
    assert make(path).done == 2


def test_a_journal_is_open_once(path: Path) -> None:
    options: dict[str, Any] = {"keys": range(5), "batch_size": 2, "settings": {"seed": 1}}
    with Journal.open(path, key_of=lambda row: row["key"], **options) as journal:
        assert journal.done == 5
        other = Journal.open(path, key_of=lambda row: row["key"], **options)
        with pytest.raises(ValueError, match=f"another process writes {path} at this moment"):
            other.__enter__()
    with Journal.open(path, key_of=lambda row: row["key"], **options) as journal:
        assert journal.done == 5


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b"[" * 100_000])
def test_damaged_settings_are_named(path: Path, content: bytes) -> None:
    settings = path.with_name("j.settings.json")
    settings.write_bytes(content)
    with pytest.raises(ValueError, match=f"{settings} (is damaged|must hold a JSON object)"):
        make(path)


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="was not started by kdlight"):
        make(path)
    with pytest.raises(ValueError, match="is not a file that can be continued"):
        make(tmp_path)
    assert path.read_text() == "{}\n"
