"""A journal keeps complete batches of one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.data.traces.journal import Journal


def test_a_journal_keeps_whole_batches(tmp_path: Path) -> None:
    path, options = tmp_path / "j", {"batch_size": 2, "total": 5, "settings": {}}
    journal = Journal(path, **options)  # type: ignore[arg-type]
    for lines in (["a", "b"], ["c", "d"], ["e"]):
        journal.append(lines)
    assert Journal(path, **options).done == 5  # type: ignore[arg-type]
    path.write_bytes(b"a\nb\nc\nd")
    assert Journal(path, **options).done == 2  # type: ignore[arg-type]
    assert path.read_bytes() == b"a\nb\n"


def test_a_journal_belongs_to_one_run(tmp_path: Path) -> None:
    path, options = tmp_path / "j", {"batch_size": 2, "total": 4}
    Journal(path, settings={"seed": 1}, **options).append(["a", "b"])
    for other in ({"settings": {"seed": 2}}, {"settings": {"seed": 1}, "total": 6}):
        with pytest.raises(ValueError, match=r"with other settings \((seed: 1|total: 4) in"):
            Journal(path, **{**options, **other})
    assert Journal(path, settings={"seed": 1}, **options).done == 2
    assert path.read_text() == "a\nb\n"
