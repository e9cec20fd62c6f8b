"""Report a run as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from kdlight.callbacks.module_check import check_module
from kdlight.callbacks.report.drawing import check_matplotlib, draw_reliability, draw_run
from kdlight.callbacks.report.evaluation import Evaluation, evaluate
from kdlight.callbacks.report.table import render
from kdlight.checkpoints import check_writable, writable_folder
from kdlight.checks import check_type
from kdlight.modules.base import DistillationBase
from kdlight.objectives import TAID


class DistillationReport(Callback):
    """Evaluates the student before and after training, and its teacher, on the validation data.

    Prints a table and writes it to ``report.md``. Draws a picture, ``report.png``, of the training
    loss, TAID's t and the validation KL over the steps. If there are labels, draws the reliability
    diagrams of student and teacher, ``reliability.png``. The measurements are saved with
    checkpoints, so the report of a resumed run covers the whole run.

    The network of a module with the `kdlight.DistillationMixin` is its ``student_network()``. If
    the directory cannot be written to any more at the end, the report is written to
    ``default_root_dir`` or else to a temporary directory, and a warning says where.

    Args:
        directory: where to write; None for the log directory of the run.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed (``pip install kdlight[report]``).
        TypeError: ``directory`` is no path.
        ValueError: The module is not one of kdlight, or does not tell its network, or the run has
            no validation data.
        OSError: The directory cannot be written to; raised before training starts.

    Example:
        >>> report = DistillationReport("reports")
        >>> sorted(report.history)
        ['forward_kl', 'loss', 't']
    """

    def __init__(self, directory: str | None = None) -> None:
        check_type("directory", directory, (str, Path, type(None)), "a path")
        self.directory = directory
        self.before: dict[str, float] | None = None
        self.after: Evaluation | None = None
        self.history: dict[str, list[tuple[int, float]]] = {"loss": [], "t": [], "forward_kl": []}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that the report can be made after it."""
        check_matplotlib()
        module = check_module("DistillationReport", pl_module)
        module.student_network()  # a mixin that does not tell its network is an error here
        directory = self._directory(trainer)
        if stage == "fit" and trainer.is_global_zero:
            check_writable(directory)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the student before its first step."""
        assert isinstance(pl_module, DistillationBase)
        if self.before is None:
            self.before = evaluate(trainer, pl_module).student
            self._record("forward_kl", 0, self.before.get("forward_kl"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss of a completed optimizer step, and t if there is one."""
        assert isinstance(pl_module, DistillationBase)
        if pl_module.last_step is None:
            return
        self._record("loss", trainer.global_step, pl_module.last_step.loss)
        for objective in pl_module.objective.modules():
            if isinstance(objective, TAID):
                self._record("t", trainer.global_step, objective.t)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation KL."""
        value = trainer.callback_metrics.get("val/forward_kl")
        if trainer.state.fn == "fit" and not trainer.sanity_checking and value is not None:
            self._record("forward_kl", trainer.global_step, value.item())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the trained student, print the report and write it."""
        assert isinstance(pl_module, DistillationBase)
        self.after = evaluate(trainer, pl_module)
        recorded = self.history["forward_kl"]
        if not recorded or recorded[-1][0] != trainer.global_step:
            self._record("forward_kl", trainer.global_step, self.after.student.get("forward_kl"))
        self._write(self._directory(trainer), trainer.default_root_dir)

    def _directory(self, trainer: Trainer) -> Path:
        return Path(self.directory or trainer.log_dir or trainer.default_root_dir)

    @rank_zero_only
    def _write(self, planned: Path, fallback: str) -> None:
        assert self.before is not None
        assert self.after is not None
        columns = {
            "student before": self.before,
            "student after": self.after.student,
            "teacher": self.after.teacher,
        }
        directory = writable_folder([planned, fallback])
        if directory != planned:  # it could be written to when the run started
            rank_zero_warn(f"the report cannot be written to {planned}; it is in {directory}")
        directory.mkdir(parents=True, exist_ok=True)
        table = render(columns, self.after.unit, temperature=self.after.temperature)
        escaped = table.replace("||", r"\|\|")  # a bar within a cell would end it
        (directory / "report.md").write_text(escaped + "\n", encoding="utf-8")
        draw_run(self.history, directory / "report.png")
        files = [directory / "report.md", directory / "report.png"]
        if self.after.reliability:
            files.append(directory / "reliability.png")
            draw_reliability(self.after.reliability, files[-1])
        print(f"\n{table}\n\nTable and pictures: {', '.join(map(str, files))}")

    def _record(self, name: str, step: int, value: float | None) -> None:
        if value is not None:
            self.history[name].append((step, value))

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements so far."""
        return {"before": self.before, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements."""
        self.before, self.history = state_dict["before"], state_dict["history"]
