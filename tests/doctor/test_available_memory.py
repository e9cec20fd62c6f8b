"""The memory of a machine and its container, and findings about too little of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.doctor import available_memory
from kdlight.doctor.available_memory import check_memory, main_memory, memory_of_a_rank
from kdlight.doctor.memory_rows import MemoryRow
from tests.support import toy

ROWS = [MemoryRow("small", 10), MemoryRow("large", 80), MemoryRow("other", 500, alternative=True)]


@pytest.mark.parametrize(
    ("memory", "level"), [(None, None), (101, None), (99, "warning"), (89, "error")]
)
def test_a_finding_depends_on_what_is_left(memory: int | None, level: str | None) -> None:
    assert [found.level for found in check_memory(ROWS, memory)] == ([level] if level else [])


def test_an_error_names_the_largest_part() -> None:
    (found,) = check_memory(ROWS, 89)
    assert found.text == (
        "a rank needs 90 B of memory, but 89 B are available; the largest part: large, 80 B"
    )


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limit").write_text("12345")
    (tmp_path / "unlimited").write_text("max")
    paths = (str(tmp_path / "unlimited"), str(tmp_path / "none"))
    monkeypatch.setattr(available_memory, "CONTAINER_LIMITS", paths)
    assert (main_memory() or 0) > 12345
    monkeypatch.setattr(available_memory, "CONTAINER_LIMITS", (*paths, str(tmp_path / "limit")))
    assert main_memory() == 12345


def test_ranks_share_the_memory_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available_memory, "main_memory", lambda: 1000)
    assert memory_of_a_rank(toy.trainer(tmp_path, devices=4, strategy="ddp")) == 250
    monkeypatch.setattr(available_memory, "main_memory", lambda: None)
    assert memory_of_a_rank(toy.trainer(tmp_path)) is None
