"""A run that receives SIGTERM saves a checkpoint and exits."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import TorchCheckpointIO

from kdlight.callbacks import Preemption
from tests.callbacks.test_exact_resume import STRATEGIES, check_same, result
from tests.support import resume_fit, toy
from tests.support.rank_scripts import start_script


@pytest.mark.parametrize("options", STRATEGIES[:2])
def test_a_signalled_run_saves_and_exits(options: dict[str, Any], tmp_path: Path) -> None:
    """Signalled during accumulation; of two ranks, only the last one is signalled."""
    sent = {"batch": 7, "name": "SIGTERM", "rank": options.get("ranks", 1) - 1}
    # ranks that Lightning launched: it kills the others where one fails
    arguments = json.dumps({**options, "signal": sent, "folder": str(tmp_path / "run")})
    ended = start_script("tests.support.resume_fit", arguments)
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


def test_a_directory_that_cannot_be_written_to_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = toy.trainer(tmp_path, callbacks=[Preemption(str(tmp_path / "file" / "a"))], max_steps=1)
    with pytest.raises(OSError, match="cannot write to '.*file/a'.*name another folder"):
        run.fit(toy.module(), toy.loader(8))
    assert run.global_step == 0


class Signals(Callback):
    """Takes the folder away in the middle of training, and sends the signal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 1:
            self.folder.touch()
            signal.raise_signal(signal.SIGTERM)


class FullDisk(TorchCheckpointIO):
    """Has space in one folder only."""

    folder = ""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        if str(path).startswith(self.folder):
            raise OSError(28, "No space left on device")
        super().save_checkpoint(checkpoint, path)


@pytest.mark.parametrize("disk_is_full", [False, True])
def test_what_cannot_be_written_any_more_is_saved_elsewhere(
    disk_is_full: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk()
    disk.folder = str(tmp_path) if disk_is_full else "nowhere"
    callbacks = [Signals(tmp_path / "gone"), Preemption(str(tmp_path / "gone"))]
    run = toy.trainer(tmp_path / "run", callbacks=callbacks, plugins=[disk])
    with caplog.at_level("INFO"), pytest.raises(SystemExit) as stop:
        run.fit(toy.module(), toy.loader(8))
    assert stop.value.code == 143
    path = Path(caplog.text.split("SIGTERM: saved ")[1].split(";")[0])
    assert path.is_relative_to(tmp_path) != disk_is_full
    assert torch.load(path, weights_only=True)["global_step"] == 2
    if disk_is_full:
        path.unlink()
        path.parent.rmdir()
