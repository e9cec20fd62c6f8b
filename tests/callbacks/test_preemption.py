"""A run that receives SIGTERM saves a checkpoint and exits."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from kdlight.callbacks import Preemption
from tests.callbacks.test_exact_resume import STRATEGIES, check_same, launch, result
from tests.support import resume_fit, toy


@pytest.mark.parametrize("options", STRATEGIES[:2])
def test_a_signalled_run_saves_and_exits(options: dict[str, Any], tmp_path: Path) -> None:
    """Signalled during accumulation; of two ranks, only the last one is signalled."""
    sent = {"batch": 7, "name": "SIGTERM", "rank": options.get("ranks", 1) - 1}
    ended = launch(tmp_path / "run", signal=sent, **options)
    assert ended.returncode == 143, ended.stderr[-3000:]
    saved = tmp_path / "run" / "log" / "version_0" / "preempted.ckpt"
    assert f"SIGTERM: saved {saved}; resume with --ckpt_path" in ended.stderr
    logged = resume_fit.rows(str(saved.parent))
    resumed = result(tmp_path / "run", resume=str(saved), **options)
    uninterrupted = result(tmp_path / "uninterrupted", **options)
    check_same(resumed, uninterrupted, logged=len(logged), name="signalled")
    assert logged + resumed["rows"] == uninterrupted["rows"]


def test_the_signal_handler_is_restored_after_the_fit(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run = toy.trainer(tmp_path, callbacks=[Preemption()], max_steps=1)
    run.fit(toy.module(), toy.loader(8))
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_it_warns(tmp_path: Path) -> None:
    def fit() -> None:
        run = toy.trainer(tmp_path, callbacks=[Preemption()], max_steps=1)
        with pytest.warns(UserWarning, match="does not run in the main thread"):
            run.fit(toy.module(), toy.loader(8))
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert done == [True]
