"""No two callbacks of a run save models in one directory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning.pytorch import Trainer


@runtime_checkable
class SavesModel(Protocol):
    """A callback that saves a model at the end of a fit."""

    def export_directory(self, trainer: Trainer) -> Path | None:
        """Return where it saves, or None if it saves nothing."""


def check_directories(trainer: Trainer) -> None:
    """Raise a ValueError where two callbacks would save their models in one directory.

    Each of them checks before the fit that its directory holds no model. At the end the second one
    would replace what the first one saved.

    Example:
        >>> from kdlight.callbacks import ExportStudent
        >>> twice = [ExportStudent("exported"), ExportStudent("./exported")]
        >>> trainer = Trainer(callbacks=twice, logger=False, accelerator="cpu",
        ...                   enable_checkpointing=False)
        >>> check_directories(trainer)
        Traceback (most recent call last):
        ValueError: directory='exported' is that of both ExportStudent and ExportStudent; set ...
    """
    taken: dict[Path, str] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        directory = callback.export_directory(trainer) if isinstance(callback, SavesModel) else None
        if directory is None:
            continue
        name, place = type(callback).__name__, directory.resolve()
        if place in taken:
            raise ValueError(
                f"directory={str(directory)!r} is that of both {taken[place]} and {name}; set"
                " another directory for one of them, as the second would replace the first"
            )
        taken[place] = name
