"""Export the student, to be used without kdlight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only


class ExportStudent(Callback):
    """Saves the student with ``save_pretrained`` when the fit ends, tokenizer included.

    A fresh process then reads it by ``AutoModelForCausalLM.from_pretrained(directory)``.

    Args:
        directory: where to save; None for ``student`` in the log directory of the run.
        overwrite: save even where the directory holds a model already.

    Raises:
        ValueError: the student cannot be saved so.
        FileExistsError: the directory holds a model, and overwrite is False; raised before
            training starts.
    """

    def __init__(self, directory: str | None = None, overwrite: bool = False) -> None:
        self.directory = directory
        self.overwrite = overwrite

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the work whether its result can be saved."""
        student = getattr(pl_module, "student", None)
        if not hasattr(student, "save_pretrained"):
            raise ValueError(
                f"ExportStudent calls student.save_pretrained(directory), which"
                f" {type(student).__name__} does not have; use a kdlight.CausalLM, or leave the"
                " callback out and take the student from the checkpoint"
            )
        directory = self._directory(trainer)
        if stage == "fit" and (directory / "config.json").exists() and not self.overwrite:
            raise FileExistsError(
                f"directory={str(directory)!r} already holds a model; name another directory, or"
                " set overwrite=True to replace it"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the student."""
        self._save(pl_module.student, self._directory(trainer), trainer)

    @rank_zero_only
    def _save(self, student: Any, directory: Path, trainer: Trainer) -> None:
        tokenizer = getattr(trainer.datamodule, "tokenizer", None)  # type: ignore[attr-defined]
        student.save_pretrained(directory, tokenizer=tokenizer)
        print(f"Student saved: {directory}")

    def _directory(self, trainer: Trainer) -> Path:
        root = trainer.log_dir or trainer.default_root_dir
        return Path(self.directory) if self.directory else Path(root) / "student"
