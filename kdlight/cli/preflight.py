"""The command line of a fit, of which the parts are created and examined."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.doctor import Report, RunEnvironment, examine
from kdlight.doctor.findings import error, reason

CPU_TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
}
KEPT_OPTIONS = (
    "accumulate_grad_batches",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
)


class Preflight(DistillationCLI):
    """Parses the options of ``kdlight fit`` and creates its classes, but runs nothing."""

    def __init__(self, args: list[str], description: str) -> None:
        self.trainer_error: str | None = None
        parser_kwargs = {"prog": "kdlight doctor", "fit": {"description": description}}
        super().__init__(["fit", *args], parser_kwargs=parser_kwargs, save_config_callback=None)

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse the options of a fit; the process was started with another command."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer, or one for the CPU if this machine does not support its options."""
        try:
            return super().instantiate_trainer(**kwargs)
        except Exception as failure:  # Lightning raises many types for missing devices
            self.trainer_error = reason(failure)
            options = self._get(self.config_init, "trainer")
            kept = {name: options[name] for name in KEPT_OPTIONS if options.get(name) is not None}
            try:
                return Trainer(**CPU_TRAINER, **kept)
            except Exception:  # one of these is the reported error
                return Trainer(**CPU_TRAINER)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def check(args: list[str], description: str = "", *, paths: bool = False) -> Report:
    """Return the report on a fit with these options, with ``paths`` those of features as well."""
    run = Preflight(args, description)
    environment = None
    if run.trainer_error is not None:
        environment = RunEnvironment.from_options(run._get(run.config_init, "trainer"))
    report = examine(run.model, run.datamodule, run.trainer, environment, paths=paths)
    if run.trainer_error is not None:
        report.findings.insert(0, error(f"the Trainer cannot be made here: {run.trainer_error}"))
    return report
