"""``kdlight doctor --config ...``: what a run will hold, and what stands in its way."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Trainer

from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.doctor import Setting, examine
from kdlight.doctor.findings import error, reason

DESCRIPTION = (
    "What a fit with these options will hold, and what stands in its way. Nothing is trained and"
    " no file is written; the exit code is 1 where the run cannot work."
)

HERE: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
}
KEPT = (
    "accumulate_grad_batches",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
)


class Preflight(DistillationCLI):
    """Reads and builds what ``kdlight fit`` would, and starts nothing."""

    def __init__(self, args: list[str]) -> None:
        self.obstacle: str | None = None
        about = {"prog": "kdlight doctor", "fit": {"description": DESCRIPTION}}
        super().__init__(["fit", *args], parser_kwargs=about, save_config_callback=None)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Read the options of a fit; the process was started with another command."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, or one that holds its place where this machine cannot have it."""
        try:
            return super().instantiate_trainer(**kwargs)
        except Exception as failure:  # Lightning has many names for what is not there
            self.obstacle = reason(failure)
            options = self._get(self.config_init, "trainer")
            asked = {name: options[name] for name in KEPT if options.get(name) is not None}
            try:
                return Trainer(**HERE, **asked)
            except Exception:  # what was wrong is among them, and told
                return Trainer(**HERE)

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing runs."""


def doctor(args: list[str]) -> None:
    """Look at a run before it starts; exit with 1 where it cannot work.

    It takes the options of ``kdlight fit``, trains nothing and writes no file.
    """
    run = Preflight(args)
    setting = None
    if run.obstacle is not None:
        setting = Setting.asked(run._get(run.config_init, "trainer"))
    report = examine(run.model, run.datamodule, run.trainer, setting)
    if run.obstacle is not None:
        report.findings.insert(0, error(f"the Trainer cannot be made here: {run.obstacle}"))
    print(report)
    if report.errors:
        sys.exit(1)
