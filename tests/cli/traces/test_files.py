"""A command does not write over what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.cli.traces.files import check_outputs


def test_an_output_is_a_file_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    pattern = str(tmp_path / "*.jsonl")
    check_outputs([pattern, "hf:name"], [tmp_path / "out" / "b.jsonl"])
    with pytest.raises(ValueError, match="is also read as one of the files"):
        check_outputs([pattern], [tmp_path / "x" / ".." / "a.jsonl"])
    with pytest.raises(ValueError, match="is a folder; name a file"):
        check_outputs([pattern], [tmp_path])
