"""A run that is resumed between two epochs begins with the first batch of the next one.

Runs whose loader grows are resumed from all their checkpoints in test_rounds_ranks.py.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from kdlight.callbacks.round_recipes.epoch_start import start_with_first_batch
from tests.support import toy


def test_nothing_changes_unless_a_run_is_resumed(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    before = run.fit_loop.epoch_loop.batch_progress.state_dict()
    start_with_first_batch(run)
    assert run.fit_loop.epoch_loop.batch_progress.state_dict() == before


def test_the_counters_begin_anew_after_the_last_batch() -> None:
    counts = SimpleNamespace(ready=4, started=4, processed=4, completed=3)
    progress = SimpleNamespace(is_last_batch=True, current=counts)
    loop = SimpleNamespace(batch_progress=progress, restarted_on_train_batch_end=True)
    start_with_first_batch(SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop)))  # type: ignore[arg-type]
    assert (counts.ready, counts.started, counts.processed, counts.completed) == (0, 0, 0, -1)
    assert not progress.is_last_batch
