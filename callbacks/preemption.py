"""Save a checkpoint and exit on SIGTERM."""

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

from kdlight.checkpoints import check_writable, writable_folder

EXIT_CODE = 128 + signal.SIGTERM


class Preemption(Callback):
    """On SIGTERM, saves ``preempted.ckpt`` after the current optimizer step and exits with 143.

    Schedulers and clouds send SIGTERM some time before they take a machine away. The exit code 143
    is that of a program terminated by the signal, and shows them that the run is not complete. It
    is enough that one rank receives the signal, as the ranks communicate after every optimizer
    step. A signal during a validation takes effect after the next step. Resume with
    ``--ckpt_path .../preempted.ckpt``; together with `kdlight.callbacks.ExactResume` this is exact.

    Whether the folder can be written to is tried before training. If it cannot be any more when the
    signal comes, the checkpoint is saved in ``default_root_dir`` or else in a temporary folder, and
    the log says where.

    The signal handler of Lightning is replaced during the fit. It starts collective communication
    within the handler, in the middle of another one.

    Args:
        directory: where to save; None for the log directory of the run.

    Raises:
        OSError: The directory cannot be written to; raised before training starts.

    Example:
        >>> Preemption("checkpoints").directory
        'checkpoints'
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self._signalled = self._saved = False
        self._steps = 0
        self._previous_handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move this callback to the end, so that it saves what the others do after a step."""
        others = [each for each in trainer.callbacks if each is not self]  # type: ignore[attr-defined]
        trainer.callbacks = [*others, self]  # type: ignore[attr-defined]
        if stage == "fit":
            self.check_writable(trainer)

    def check_writable(self, trainer: Trainer) -> None:
        """Raise an OSError on the first rank if it cannot write to the directory."""
        directory = self._directory(trainer)  # on all ranks, which communicate for it
        if trainer.is_global_zero:
            check_writable(directory)

    def _directory(self, trainer: Trainer) -> str:
        return str(self.directory or trainer.log_dir or trainer.default_root_dir)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handler."""
        self._signalled = self._saved = False
        self._steps = trainer.global_step
        if threading.current_thread() is not threading.main_thread():
            rank_zero_warn(
                "Preemption has no effect: the fit does not run in the main thread, which alone can"
                " handle SIGTERM"
            )
            return
        self._previous_handler = signal.signal(signal.SIGTERM, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after an optimizer step if any rank has received the signal."""
        if trainer.global_step == self._steps:  # gradients are still being accumulated
            return
        self._steps = trainer.global_step
        if not self._any_rank_signalled(trainer):
            return
        path = self._save(trainer)
        rank_zero_info(f"SIGTERM: saved {path}; resume with --ckpt_path {path}")
        self._saved = True

    def _save(self, trainer: Trainer) -> Path:
        """Save where it is possible, and return the path; the ranks save in the same place."""
        wanted, root = self._directory(trainer), trainer.default_root_dir
        folder = writable_folder([wanted, root]) if trainer.is_global_zero else Path(wanted)
        path = Path(trainer.strategy.broadcast(folder)) / "preempted.ckpt"
        try:
            trainer.save_checkpoint(path)
        except OSError:  # such as a disk that is full
            if trainer.world_size > 1:  # the other ranks wait for this one
                raise
            path = writable_folder([]) / path.name
            trainer.save_checkpoint(path)
        return path

    # ---- the hooks that may follow a step, when its values are logged

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Exit if the checkpoint is saved."""
        self._exit(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exit if the checkpoint is saved."""
        self._exit(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exit if the checkpoint is saved."""
        self._exit(trainer)

    def _exit(self, trainer: Trainer) -> None:
        if self._saved:
            # with another exit code of a rank that it launched, Lightning would kill the others
            raise SIGTERMException(EXIT_CODE if trainer.is_global_zero else 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the previous signal handler."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restore the previous signal handler."""
        self._restore()

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signalled = True

    def _any_rank_signalled(self, trainer: Trainer) -> bool:
        signalled = torch.tensor(int(self._signalled), device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            dist.all_reduce(signalled, op=dist.ReduceOp.MAX)
        return bool(signalled)

    def _restore(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None
