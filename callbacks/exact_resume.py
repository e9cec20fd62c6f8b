"""An interrupted run goes on to the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any, cast

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.callbacks.resume.progress import between_steps, loader_states, progress
from kdlight.callbacks.resume.random_state import random_state, set_random_state
from kdlight.callbacks.resume.whole_checkpoints import keep_checkpoints_whole

State = dict[str, Any]


class ExactResume(Callback):
    """Makes a run that is resumed from any of its checkpoints equal to one never interrupted.

    It adds to a checkpoint what Lightning leaves out, and sees to it that the checkpoint is whole:

    - **random numbers** of torch, the device, numpy and Python, of every rank;
    - **the position in the data** of every rank: the training loader must be one that has a
      ``state_dict``, as `kdlight.data.loaders.ResumableLoader` and those of `kdlight.data` have;
    - **the last whole optimizer step.** Gradients that are still being accumulated are in no
      checkpoint; one that is written in the middle of a window, or of a validation, leads back to
      the end of the step before it, which is gone through again;
    - **a validation that was due** when the checkpoint was written is run first;
    - **half a checkpoint is none**: it is written under another name (``NAME.part``) and renamed
      when it is whole, and one that was cut short is refused by name.

    Not covered: what was to follow the very last step of ``max_steps`` (Lightning holds such a run
    for done), random numbers drawn in the worker processes of a loader (let an item be a function
    of its index and the epoch), running statistics such as those of batch normalisation when a
    checkpoint is written within a window, and kernels that are not deterministic
    (``Trainer(deterministic=True)``).

    Raises:
        ValueError: at the start, a training loader without a ``state_dict``; on a resume, a
            checkpoint that is not whole.

    Example:
        >>> from lightning.pytorch.callbacks import ModelCheckpoint
        >>> trainer = Trainer(
        ...     callbacks=[ExactResume(), ModelCheckpoint(every_n_train_steps=100)], logger=False
        ... )  # and later trainer.fit(..., ckpt_path="last")
    """

    def __init__(self) -> None:
        self._point: State | None = None  # where a run can go on from, if not from here
        self._random: State | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """From now on, checkpoints are written and read whole."""
        keep_checkpoints_whole(trainer.strategy)
        self._point = self._random = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the random numbers of the checkpoint, as late as a callback can."""
        fit = trainer.fit_loop
        for loader in fit._combined_loader.flattened if fit._combined_loader else []:
            if not (hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")):
                raise ValueError(
                    f"ExactResume needs a training loader that knows how far it has come, and"
                    f" {type(loader).__name__} has no state_dict; use"
                    " kdlight.data.loaders.ResumableLoader, which takes the same arguments, or"
                    " leave ExactResume out"
                )
        if fit._combined_loader_states_to_load and fit.restarting:
            # the number of steps was asked for, and the loaders made, before they could be restored
            fit._load_combined_loader_states()
            iter(cast(Iterable, fit._data_fetcher))
        if self._random is None:
            self._point = self._here(trainer, pl_module)
            return
        self._restore(pl_module)
        # Lightning may make a validation loader on its way to the first batch, which draws a number
        fetcher = fit._data_fetcher
        assert fetcher is not None
        assert fetcher.iterator is not None
        fetcher.iterator = self._restored(pl_module, fetcher.iterator)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation before the first batch goes on from the random numbers by itself."""
        self._random = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the end of every optimizer step."""
        self._remember(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the end of a validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._remember(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the end of an epoch."""
        self._remember(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: State
    ) -> None:
        """Add where every rank stands; called on all of them."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._remember(trainer, pl_module)
        assert self._point is not None
        loops = self._point["loops"]
        if loops is None:  # not one step is done: the resumed run starts anew
            del checkpoint["loops"]
        else:
            checkpoint["loops"]["fit_loop"] = deepcopy(loops)
        mine = {"random": self._point["random"], "loaders": loader_states(loops)}
        ranks: list[Any] = [mine]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            dist.all_gather_object(ranks, mine)
        checkpoint["callbacks"][self.state_key] = {"ranks": ranks}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: State
    ) -> None:
        """Take back what this rank had."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        ranks = checkpoint["callbacks"].get(self.state_key, {"ranks": []})["ranks"]
        if len(ranks) != trainer.world_size:
            what = f"by {len(ranks)} processes" if ranks else "without ExactResume"
            rank_zero_warn(
                f"the checkpoint was made {what}, and this run has {trainer.world_size}: it goes on"
                " with other random numbers and, within an epoch, other data than an uninterrupted"
                " run"
            )
            return
        mine = ranks[trainer.global_rank]
        loops = checkpoint.get("loops", {}).get("fit_loop")
        if loops is not None and mine["loaders"]:
            loops["state_dict"]["combined_loader"] = mine["loaders"]
        self._random = mine["random"]
        self._point = {"loops": deepcopy(loops), "random": mine["random"]}

    def _restore(self, pl_module: LightningModule) -> None:
        if self._random is not None:
            set_random_state(self._random, pl_module.device)

    def _restored(self, pl_module: LightningModule, batches: Iterator) -> Iterator:
        self._restore(pl_module)
        self._random = None
        yield from batches

    def _remember(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if between_steps(trainer):
            self._point = self._here(trainer, pl_module)

    def _here(self, trainer: Trainer, pl_module: LightningModule) -> State:
        return {"loops": progress(trainer), "random": random_state(pl_module.device)}
