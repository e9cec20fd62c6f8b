"""The state of a callback that changes with each batch, as a resumed run must find it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, Trainer

from kdlight.callbacks.exact_resume import ExactResume
from kdlight.callbacks.resume.progress import between_steps


class TrainedState:
    """Keeps what a callback saves, without the batches that a resumed run repeats.

    A run can end within a batch, as where a server does not answer. It is resumed with this batch,
    and with `kdlight.callbacks.ExactResume` with the first one of its optimizer step.

    Args:
        callback: a callback with a ``state_dict``, which calls `keep` after each batch and `save`
            in ``on_save_checkpoint``.

    Example:
        >>> class Counts(Callback):
        ...     batches = 3
        ...
        ...     def state_dict(self):
        ...         return {"batches": self.batches}
        >>> counts, checkpoint = Counts(), {"callbacks": {"Counts": {"batches": 4}}}
        >>> state, counts.batches = TrainedState(counts), 4
        >>> state.put_into(checkpoint)
        >>> checkpoint["callbacks"]
        {'Counts': {'batches': 3}}
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.value = callback.state_dict()

    def keep(self, trainer: Trainer) -> None:
        """Remember the state, if a run that is resumed from here goes on with the next batch."""
        counts: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
        repeats_steps = any(isinstance(each, ExactResume) for each in callbacks)
        if between_steps(trainer) if repeats_steps else counts.ready == counts.processed:
            self.value = self.callback.state_dict()

    def save(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        """Replace the state in a checkpoint by the one to resume from."""
        self.keep(trainer)
        self.put_into(checkpoint)

    def put_into(self, checkpoint: dict[str, Any]) -> None:
        """Replace the state in a checkpoint by the one that was remembered."""
        if self.callback.state_key in checkpoint.get("callbacks", {}):
            checkpoint["callbacks"][self.callback.state_key] = self.value
