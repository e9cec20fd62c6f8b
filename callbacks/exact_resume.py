"""Resume an interrupted run to the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any, cast

import torch.distributed as dist
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from kdlight.callbacks.resume.atomic_checkpoints import make_checkpoints_atomic
from kdlight.callbacks.resume.progress import between_steps, loader_states, progress
from kdlight.callbacks.resume.random_state import random_state, set_random_state

State = dict[str, Any]


class ExactResume(Callback):
    """Makes a run that is resumed from any of its checkpoints equal to an uninterrupted run.

    It adds to a checkpoint what Lightning does not save, and writes it atomically:

    - **Random generators** of torch, the device, NumPy and Python, of every rank.
    - **The position in the data** of every rank. The training loader must have a ``state_dict``,
      as `kdlight.data.loaders.ResumableLoader` and those of `kdlight.data` do. An
      ``IterableDataset`` needs a ``__len__``, and is read again up to that position.
    - **The last completed optimizer step.** A checkpoint holds no gradients that are still being
      accumulated. One that is written during accumulation or validation resumes from the end of the
      step before it, which is repeated.
    - **A validation that was due** when the checkpoint was written is run first.
    - **Atomic checkpoints.** A checkpoint is written under another name (``NAME.part``) and renamed
      when it is complete. An incomplete one is refused with its name.

    Not covered: what follows the very last step of ``max_steps`` (Lightning considers such a run
    complete); random numbers drawn in the worker processes of a loader (let an item be a function
    of its index and the epoch); running statistics such as those of batch normalization if a
    checkpoint is written during accumulation; and kernels that are not deterministic
    (``Trainer(deterministic=True)``).

    Raises:
        ValueError: At the start, a training loader without a ``state_dict`` or a length; on a
            resume, an incomplete checkpoint.

    Example:
        >>> from lightning.pytorch.callbacks import ModelCheckpoint
        >>> trainer = Trainer(
        ...     callbacks=[ExactResume(), ModelCheckpoint(every_n_train_steps=100)], logger=False
        ... )  # and later trainer.fit(..., ckpt_path="last")
    """

    def __init__(self) -> None:
        self._point: State | None = None  # the last state between two steps
        self._random: State | None = None  # of a checkpoint, until it is restored

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make checkpoints atomic."""
        make_checkpoints_atomic(trainer.strategy)
        self._point = self._random = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random generators, as late as a callback can."""
        fit = trainer.fit_loop
        combined = fit._combined_loader
        for loader in [] if combined is None else combined.flattened:
            if sized_len(loader) is None:
                dataset = type(getattr(loader, "dataset", loader)).__name__
                raise ValueError(
                    f"ExactResume needs training data with a length, but {dataset} has none:"
                    " without it, a resumed run does not know where an epoch ends; define __len__,"
                    " the number of samples, or remove ExactResume"
                )
            if not (hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")):
                raise ValueError(
                    f"ExactResume needs a training loader that saves its position, but"
                    f" {type(loader).__name__} has no state_dict; use"
                    " kdlight.data.loaders.ResumableLoader, which takes the same arguments, or"
                    " remove ExactResume"
                )
        if fit._combined_loader_states_to_load and fit.restarting:
            # the loaders were created for the number of steps, before they could be restored
            fit._load_combined_loader_states()
            iter(cast(Iterable, fit._data_fetcher))
        if self._random is None:
            self._point = self._state(trainer, pl_module)
            return
        self._restore(pl_module)
        # Lightning may create a validation loader before the first batch, which draws a number
        fetcher = fit._data_fetcher
        assert fetcher is not None
        assert fetcher.iterator is not None
        fetcher.iterator = self._restored(pl_module, fetcher.iterator)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not restore the random generators again after a validation before the first batch."""
        if not trainer.sanity_checking:  # which is over before they are restored
            self._random = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the state after an optimizer step."""
        self._record(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the state after a validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._record(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the state after an epoch."""
        self._record(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: State
    ) -> None:
        """Add the state of every rank; Lightning calls this on all of them."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._record(trainer, pl_module)
        assert self._point is not None
        loops = self._point["loops"]
        if loops is None:  # no step is completed: the resumed run starts from the beginning
            del checkpoint["loops"]
        else:
            checkpoint["loops"]["fit_loop"] = deepcopy(loops)
        own = {"random": self._point["random"], "loaders": loader_states(loops)}
        ranks: list[Any] = [own]
        if trainer.world_size > 1:
            ranks = [None] * trainer.world_size
            dist.all_gather_object(ranks, own)
        checkpoint["callbacks"][self.state_key] = {"ranks": ranks}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: State
    ) -> None:
        """Load the state of this rank."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        ranks = checkpoint["callbacks"].get(self.state_key, {"ranks": []})["ranks"]
        if len(ranks) != trainer.world_size:
            origin = f"by {len(ranks)} processes" if ranks else "without ExactResume"
            rank_zero_warn(
                f"the checkpoint was made {origin}, and this run has {trainer.world_size}: it"
                " continues with other random numbers and, within an epoch, other data than an"
                " uninterrupted run"
            )
            return
        own = ranks[trainer.global_rank]
        loops = checkpoint.get("loops", {}).get("fit_loop")
        if loops is not None and own["loaders"]:
            loops["state_dict"]["combined_loader"] = own["loaders"]
        self._random = own["random"]
        self._point = {"loops": deepcopy(loops), "random": own["random"]}

    def _restore(self, pl_module: LightningModule) -> None:
        if self._random is not None:
            set_random_state(self._random, pl_module.device)

    def _restored(self, pl_module: LightningModule, batches: Iterator) -> Iterator:
        self._restore(pl_module)
        self._random = None
        yield from batches

    def _record(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if between_steps(trainer):
            self._point = self._state(trainer, pl_module)

    def _state(self, trainer: Trainer, pl_module: LightningModule) -> State:
        return {"loops": progress(trainer), "random": random_state(pl_module.device)}
