"""What is made in batches is kept, and not made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kdlight.callbacks.round_recipes.journaled import journaled
from kdlight.callbacks.round_recipes.work import numbered
from kdlight.data.traces import Trace
from tests.support import toy

TASKS = numbered([Trace(f"prompt {i}", "") for i in range(5)], samples=2)


class Maker:
    """Answers with the number of the task; fails at one of its calls."""

    def __init__(self, fails: int = -1) -> None:
        self.fails, self.calls = fails, []

    def __call__(self, part: Sequence[Trace], done: int) -> list[Trace]:
        if len(self.calls) == self.fails:
            raise RuntimeError("stopped")
        self.calls.append((done, len(part)))
        return [replace(task, response=str(done + i)) for i, task in enumerate(part)]


def test_it_makes_all_in_order(tmp_path: Path) -> None:
    run, make = toy.trainer(tmp_path), Maker()
    made = journaled(run, tmp_path / "a.jsonl", TASKS, make, batch_size=2, batches=2)
    assert [trace.response for trace in made] == [str(i) for i in range(10)]
    assert make.calls == [(0, 4), (4, 4), (8, 2)]
    again = journaled(run, tmp_path / "a.jsonl", TASKS, make, batch_size=2, batches=2)
    assert again == made
    assert len(make.calls) == 3
    assert journaled(run, tmp_path / "none.jsonl", [], make, batch_size=2) == []


@pytest.mark.parametrize("batches", [1, 2])
def test_a_stopped_file_is_continued_to_the_same_bytes(batches: int, tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    journaled(run, whole, TASKS, Maker(), batch_size=2)
    with pytest.raises(RuntimeError, match="stopped"):
        journaled(run, cut, TASKS, Maker(fails=2), batch_size=2, batches=batches)
    with cut.open("a") as file:
        file.write('{"prompt": "half a li')
    make = Maker()
    journaled(run, cut, TASKS, make, batch_size=2, batches=1)
    assert make.calls[0] == (4 * batches, 2)
    assert cut.read_bytes() == whole.read_bytes()
