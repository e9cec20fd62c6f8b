"""Lightning's command line over kdlight's modules."""

from __future__ import annotations

from typing import Any

from jsonargparse import ActionConfigFile, set_parsing_settings  # pyright: ignore[reportPrivateImportUsage]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

# imported so that jsonargparse finds classes by their name: `--model.objective ForwardKL`
from kdlight import callbacks, models, objectives  # noqa: F401
from kdlight.checkpoints import check_before_loading, name_failed_writes
from kdlight.checks import check_at_least
from kdlight.cli.checkpoint_conflicts import (
    HELP,
    TRUST_HELP,
    OnConflict,
    check_checkpoint_weights,
    resolve_conflicts,
)
from kdlight.cli.checkpoint_paths import is_name, resolve
from kdlight.cli.config_parser import Parser
from kdlight.cli.errors import TRACEBACK, TRACEBACK_HELP, describe
from kdlight.cli.run_errors import SETUP_ERRORS, one_line_run_errors
from kdlight.data import (  # noqa: F401
    DigitsDataModule,
    DomainDataModule,
    TextDataModule,
    TracesDataModule,
)
from kdlight.modules.base import DistillationBase

DEVICE_OPTIONS = ("accelerator", "devices", "num_nodes", "strategy", "precision")


class DistillationCLI(LightningCLI):
    """LightningCLI for modules of kdlight, and for your own with the `kdlight.DistillationMixin`.

    Interpolation in a config starts at the root (``${model.init_args.temperature}``) and follows
    overrides on the command line. A config may include others, see `kdlight.cli.config_files`.

    Args:
        args: the arguments, the command first; None for those of the process.
        parser_kwargs: options of the parser; those of a command's parser under its name.
        **kwargs: other arguments of `lightning.pytorch.cli.LightningCLI`.

    Example:
        >>> class WithTag(DistillationCLI):
        ...     def add_arguments_to_parser(self, parser):
        ...         super().add_arguments_to_parser(parser)
        ...         parser.add_argument("--tag", default="none")
        >>> issubclass(WithTag, LightningCLI)
        True
    """

    def __init__(
        self,
        args: list[str] | None = None,
        *,
        parser_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        super().__init__(
            DistillationBase,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_kwargs={"parser_mode": "omegaconf+", **(parser_kwargs or {})},
            save_config_kwargs={"overwrite": True},
            args=args,
            **kwargs,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a `Parser`, also for subcommands."""
        parser = Parser(**kwargs)
        parser.add_argument(
            "-c",
            "--config",
            action=ActionConfigFile,
            help="A config; later ones override it.",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options for conflicts with a checkpoint, for trust, and for tracebacks."""
        parser.add_argument("--on_conflict", type=OnConflict, default="error", help=HELP)
        parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
        parser.add_argument(TRACEBACK, action="store_true", help=TRACEBACK_HELP)

    def _parse_ckpt_path(self) -> None:
        # Lightning overrides the command line by the hyper-parameters of a checkpoint silently
        ckpt_path = self.config[self.config.subcommand].ckpt_path
        self._checkpoint = None  # until a name such as "last" can be resolved
        if ckpt_path and not is_name(ckpt_path):
            self._resolve_conflicts(ckpt_path)

    def _resolve_conflicts(self, ckpt_path: Any) -> bool:
        """Let the options decide between two models; return whether the config is another one."""
        before, self._checkpoint = self.config, ckpt_path
        try:
            self.config = resolve_conflicts(self.parser, self.config, ckpt_path)
        except ValueError as error:
            self.parser.error(str(error), error)
        return self.config is not before

    def instantiate_classes(self) -> None:
        """Create the classes, and report errors of their constructors like other wrong input."""
        try:
            super().instantiate_classes()
            self._check_resolved()
            keep_config(self.model, self.config_dump["model"])
            check_checkpoint_weights(self.model, self._checkpoint)
        except SETUP_ERRORS as error:
            self.parser.error(describe(error), error)
        check_before_loading(self.trainer.strategy)
        name_failed_writes(self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer; an error names the options that choose the devices."""
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except SETUP_ERRORS as error:
            options = self._get(self.config_init, "trainer", default={})
            values = {name: options.get(name) for name in DEVICE_OPTIONS}
            given = ", ".join(
                f"trainer.{name}={value!r}"
                for name, value in values.items()
                if isinstance(value, (str, int, list))
            )
            # Lightning's own words are enough without the name of their class
            is_plain = isinstance(error, MisconfigurationException)
            raise ValueError(f"{error if is_plain else describe(error)} ({given})") from error
        check_at_least("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, 1)
        return trainer

    def _check_resolved(self) -> None:
        """Find the checkpoint as Lightning does, for which it takes a Trainer, and check it."""
        given = self._checkpoint or self.config[self.config.subcommand].ckpt_path
        found = resolve(self.trainer, self.config.subcommand, given)
        if found and found != given and self._resolve_conflicts(found):
            del self.config_dump  # the one that is saved with the run
            self._set_seed()
            super().instantiate_classes()

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        options = super()._prepare_subcommand_kwargs(subcommand)
        if self._checkpoint:
            options["ckpt_path"] = self._checkpoint  # the one that was checked
        if "weights_only" in options and options["weights_only"] is None:
            options["weights_only"] = True  # for a remote checkpoint, Lightning's default is not
        return options

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except SETUP_ERRORS as error:
            self.parser.error(f"seed_everything: {describe(error)}", error)

    def _run_subcommand(self, subcommand: str) -> None:
        with one_line_run_errors(self.trainer):
            super()._run_subcommand(subcommand)
        if subcommand == "fit":
            report_missing_checkpoint(self.trainer)


def report_missing_checkpoint(trainer: Trainer) -> None:
    """Say so after a fit that ended before its first checkpoint, which `kdlight export` needs.

    Nothing is missing where `kdlight.callbacks.ExportStudent` has saved the student.

    Example:
        >>> report_missing_checkpoint(Trainer(enable_checkpointing=False, logger=False,
        ...                                 accelerator="cpu"))
    """
    wanted = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    written = any(each.best_model_path for each in wanted)
    exported = any(isinstance(each, callbacks.ExportStudent) for each in trainer.callbacks)  # type: ignore[attr-defined]
    if trainer.global_step and wanted and not written and not exported:
        rank_zero_info(
            "no checkpoint was written: the fit ended before its first validation, after which"
            f" checkpoints are written (trainer.max_steps={trainer.max_steps},"
            f" trainer.val_check_interval={trainer.val_check_interval}); lower val_check_interval"
        )


def keep_config(module: LightningModule, config: dict[str, Any]) -> None:
    """Keep the config of a module in its checkpoints, if it does not save it by itself.

    Example:
        >>> module = LightningModule()
        >>> keep_config(module, {"class_path": "my.Module", "init_args": {"width": 3}})
        >>> module.hparams["width"]
        3
    """
    if "_class_path" in module.hparams:  # it called save_hyperparameters
        return
    options = {**(config.get("init_args") or {}), **(config.get("dict_kwargs") or {})}
    instantiator = "lightning.pytorch.cli.instantiate_module"
    module._set_hparams(
        {**options, "_class_path": config["class_path"], "_instantiator": instantiator}
    )
