"""The report of a run: one table and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from kdlight.callbacks.report.drawing import check_drawing, draw_reliability, draw_run
from kdlight.callbacks.report.evaluation import Evaluation, evaluate
from kdlight.modules import StandaloneModule
from kdlight.objectives import TAID

ROWS = {
    "forward_kl": ("KL(teacher || student)", "{:.4f}"),
    "reverse_kl": ("KL(student || teacher)", "{:.4f}"),
    "perplexity": ("perplexity", "{:.2f}"),
    "accuracy": ("accuracy", "{:.2%}"),
    "top1_agreement": ("top-1 agreement", "{:.2%}"),
    "ece": ("calibration error (ECE)", "{:.4f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "per_second": ("forward pass, {unit}s/s", "{:,.0f}"),
}


class Report(Callback):
    """Measures the student before and after training, beside its teacher, on validation data.

    Prints a table and writes it (``report.md``), with a picture (``report.png``) of the loss, of
    TAID's t and of the validation KL over the steps, and, where there are labels, the reliability
    diagrams of student and teacher (``reliability.png``). What it has measured is saved with
    checkpoints, so a resumed run reports on the whole.

    Args:
        directory: where to write; None for the log directory of the run.

    Raises:
        ModuleNotFoundError: matplotlib is not installed (``pip install kdlight[report]``).
        ValueError: the run has no validation data.

    Example:
        >>> report = Report("reports")
        >>> sorted(report.history)
        ['forward_kl', 'loss', 't']
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory
        self.before: dict[str, float] | None = None
        self.after: Evaluation | None = None
        self.history: dict[str, list[tuple[int, float]]] = {"loss": [], "t": [], "forward_kl": []}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the work whether the picture can be drawn after it."""
        check_drawing()
        if not isinstance(pl_module, StandaloneModule):
            raise ValueError(
                f"Report measures a DistillationModule, got {type(pl_module).__name__}"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the student as it is before its first step."""
        assert isinstance(pl_module, StandaloneModule)
        if self.before is None:
            self.before = evaluate(trainer, pl_module).student
            self._note("forward_kl", 0, self.before.get("forward_kl"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss, and t where there is one, of a finished optimizer step."""
        assert isinstance(pl_module, StandaloneModule)
        if pl_module.last_step is None:
            return
        self._note("loss", trainer.global_step, pl_module.last_step.loss)
        for objective in pl_module.objective.modules():
            if isinstance(objective, TAID):
                self._note("t", trainer.global_step, objective.t)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the validation KL."""
        value = trainer.callback_metrics.get("val/forward_kl")
        if trainer.state.fn == "fit" and not trainer.sanity_checking and value is not None:
            self._note("forward_kl", trainer.global_step, value.item())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the trained student, print and write."""
        assert isinstance(pl_module, StandaloneModule)
        self.after = evaluate(trainer, pl_module)
        directory = Path(self.directory or trainer.log_dir or trainer.default_root_dir)
        self._write(directory)

    @rank_zero_only
    def _write(self, directory: Path) -> None:
        assert self.before is not None
        assert self.after is not None
        columns = {
            "student before": self.before,
            "student after": self.after.student,
            "teacher": self.after.teacher,
        }
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

    def _note(self, name: str, step: int, value: float | None) -> None:
        if value is not None:
            self.history[name].append((step, value))

    def state_dict(self) -> dict[str, Any]:
        """What was measured so far."""
        return {"before": self.before, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was measured."""
        self.before, self.history = state_dict["before"], state_dict["history"]


def render(
    columns: dict[str, dict[str, float]], unit: str = "token", *, temperature: float = 1.0
) -> str:
    """A Markdown table of figures, one column a network; rows that no network has are left out.

    Example:
        >>> print(render({"student": {"perplexity": 12.0}, "teacher": {"perplexity": 9.5}}))
        | held out   | student | teacher |
        | :--------- | ------: | ------: |
        | perplexity |   12.00 |    9.50 |
    """
    heading = "held out" if temperature == 1 else f"held out (KL at temperature {temperature:g})"
    cells = [[heading, *columns]]
    for key, (title, form) in ROWS.items():
        if any(key in figures for figures in columns.values()):
            shown = [form.format(f[key]) if key in f else "" for f in columns.values()]
            cells.append([title.format(unit=unit), *shown])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [_line(row, widths) for row in cells]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join([lines[0], _line(rule, widths), *lines[1:]])


def _line(row: list[str], widths: list[int]) -> str:
    _, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "| " + " | ".join([row[0].ljust(widths[0]), *rest]) + " |"
