"""A run that is told to go saves itself and goes."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

EXIT_CODE = 128 + signal.SIGTERM


class Preemption(Callback):
    """On SIGTERM, saves ``preempted.ckpt`` after the current optimizer step and exits with 143.

    Schedulers and clouds send SIGTERM some time before they take a machine away; 143, as of a
    program that the signal ended, tells them that the run is not done. One rank that gets the
    signal is enough: the ranks agree after every optimizer step. A signal during a validation waits
    until the next step is done. Resume with ``--ckpt_path .../preempted.ckpt``, exactly together
    with `kdlight.callbacks.ExactResume`.

    Lightning's own answer is put aside meanwhile: it lets the ranks talk to each other from within
    the signal handler, in the middle of whatever they are about to tell each other.

    Args:
        directory: where to save; None for the log directory of the run.

    Example:
        >>> Preemption("checkpoints").directory
        'checkpoints'
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self._told = self._saved = False
        self._steps = 0
        self._before: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come last, to save what the other callbacks have done after the step."""
        others = [each for each in trainer.callbacks if each is not self]  # type: ignore[attr-defined]
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._told = self._saved = False
        self._steps = trainer.global_step
        if threading.current_thread() is not threading.main_thread():
            rank_zero_warn("Preemption hears no SIGTERM: the fit does not run in the main thread")
            return
        self._before = signal.signal(signal.SIGTERM, self._hear)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if a rank was told to go and this batch ended an optimizer step."""
        if trainer.global_step == self._steps:  # still accumulating gradients
            return
        self._steps = trainer.global_step
        if not self._anyone_told(trainer):
            return
        root = self.directory or trainer.log_dir or trainer.default_root_dir
        path = Path(trainer.strategy.broadcast(root)) / "preempted.ckpt"
        trainer.save_checkpoint(path)
        rank_zero_info(f"SIGTERM: saved {path}; resume with --ckpt_path {path}")
        self._saved = True

    # ---- what comes next after a step, by when it is logged

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Go."""
        self._leave(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go."""
        self._leave(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go."""
        self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        if self._saved:
            # a rank that Lightning started must not fail, or Lightning kills the others at once
            raise SIGTERMException(EXIT_CODE if trainer.is_global_zero else 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen no more."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Listen no more."""
        self._restore()

    def _hear(self, number: int, frame: Any) -> None:
        self._told = True

    def _anyone_told(self, trainer: Trainer) -> bool:
        told = torch.tensor(int(self._told), device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return bool(told)

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
