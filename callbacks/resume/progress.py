"""The state of Lightning's loops from which a fit can be resumed exactly."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def between_steps(trainer: Trainer) -> bool:
    """Return whether no batch, accumulation of gradients or validation is in progress."""
    training = trainer.fit_loop.epoch_loop
    batches: Any = training.batch_progress.current
    validation = training.val_loop.batch_progress
    validated = (
        validation.is_last_batch and validation.current.ready == validation.current.completed
    )
    return (
        batches.ready == batches.processed
        and not training._should_accumulate()
        and (not trainer.validating or validated)
    )


def progress(trainer: Trainer) -> dict[str, Any] | None:
    """Return the state of the fit loop to resume from; None before the first optimizer step.

    Call it only if `between_steps` is true. It differs from the state that Lightning saves as
    follows. A validation that is due after the batch is run on a resume. The end of an epoch is not
    repeated. The position in the data is that of the batches that were trained on, even if the next
    batch is fetched already.
    """
    if trainer.global_step == 0:  # Lightning would count a batch that was never trained on
        return None
    fit = trainer.fit_loop
    state = fit.state_dict()
    batches = state["epoch_loop.batch_progress"]
    fetcher = fit._data_fetcher
    ended = batches["current"]["completed"] == batches["current"]["processed"]
    if not ended and fetcher is not None and fit.epoch_loop._should_check_val_fx(fetcher):
        _validate_first(state)
    _end_epoch_once(state)
    fetched = len(getattr(fetcher, "batches", ()))
    for loader in loader_states(state):
        if "batches" in loader:  # a `kdlight.data.loaders.ResumableLoader`
            loader["batches"] = 0 if batches["is_last_batch"] else loader["batches"] - fetched
    return state


def loader_states(state: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the states of the training loaders in the state of the fit loop."""
    return [] if state is None else state["state_dict"].get("combined_loader", [])


def _validate_first(state: dict[str, Any]) -> None:
    """Make Lightning run the validation after the last batch, by counters as if it had begun."""
    for counts in (state["epoch_loop.batch_progress"][part] for part in ("total", "current")):
        counts["completed"] = counts["processed"]
    validation = state["epoch_loop.val_loop.batch_progress"]
    for counts in (validation["total"], validation["current"]):
        counts.update(ready=1, started=1, processed=0, completed=0)


def _end_epoch_once(state: dict[str, Any]) -> None:
    """At the end of an epoch, set the counters to those after its last batch.

    Resumed from within the end of an epoch, a run with ``max_steps`` would train on one batch too
    many.
    """
    epoch, batches = state["epoch_progress"], state["epoch_loop.batch_progress"]
    counts = epoch["current"]
    ending = counts["ready"] == counts["processed"] == counts["completed"] + 1
    if not (ending and batches["is_last_batch"]):
        return
    for part in ("total", "current"):
        epoch[part]["processed"] -= 1
        batches[part]["completed"] -= 1
    state["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning counts it on a resume
