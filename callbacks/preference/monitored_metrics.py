"""Warn about metrics that do not show the collapse of a model."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

MISLEADING = ("loss", "margin")
"""Parts of the names of metrics that improve while a model collapses."""


def warn_of_misleading_monitors(trainer: Trainer) -> None:
    """Warn if a ModelCheckpoint or EarlyStopping monitors a metric that improves in a collapse."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None) or ""
        if isinstance(callback, (ModelCheckpoint, EarlyStopping)) and any(
            word in monitor for word in MISLEADING
        ):
            rank_zero_warn(
                f"{type(callback).__name__} monitors {monitor!r}, which improves while a model"
                " collapses; monitor train/chosen_log_prob (mode max) or an accuracy instead"
            )
