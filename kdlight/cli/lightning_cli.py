"""Lightning's command line over kdlight's modules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, set_parsing_settings  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import Path_fr
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

# imported so that jsonargparse finds classes by their name: `--model.objective ForwardKL`
from kdlight import callbacks, models, objectives  # noqa: F401
from kdlight.cli.checkpoint_conflicts import (
    HELP,
    OnConflict,
    check_checkpoint_weights,
    resolve_conflicts,
)
from kdlight.cli.config_files import read_config, to_text
from kdlight.cli.errors import exit_with, explain
from kdlight.data import DigitsDataModule, TextDataModule, TracesDataModule  # noqa: F401
from kdlight.modules import StandaloneModule

CONSTRUCTOR_ERRORS = (ValueError, TypeError, OSError, ImportError, MisconfigurationException)
"""Errors of constructors for wrong arguments, or for a machine without the required devices."""


class Parser(LightningArgumentParser):
    """Lightning's parser for configs that include others, with errors of one line."""

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a config file with the files that it includes; see `kdlight.cli.config_files`."""
        if not Path(path).is_file():  # such as a URL
            return super().parse_path(path, *args, **kwargs)
        try:
            content = to_text(read_config(path))
        except ValueError as error:
            self.error(str(error), error)
        # relative paths within the config are relative to its folder
        with Path_fr(str(path)).relative_path_context():  # pyright: ignore[reportCallIssue]
            return self.parse_string(content, os.path.basename(path), *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and exit with 2; ``JSONARGPARSE_DEBUG=1`` shows all details."""
        # the parser of a class in a config raises; the parser of the command reports it
        if not self.exit_on_error or "JSONARGPARSE_DEBUG" in os.environ:
            super().error(message, ex)
        exit_with(explain(message))


class DistillationCLI(LightningCLI):
    """LightningCLI that builds a `kdlight.DistillationModule` or a subclass of it.

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
            StandaloneModule,
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
        """Add the option for conflicts between a checkpoint and the command line."""
        parser.add_argument("--on_conflict", type=OnConflict, default="error", help=HELP)

    def _parse_ckpt_path(self) -> None:
        # Lightning overrides the command line by the hyper-parameters of a checkpoint silently
        try:
            self.config = resolve_conflicts(self.parser, self.config)
        except ValueError as error:
            self.parser.error(str(error), error)

    def instantiate_classes(self) -> None:
        """Create the classes, and report errors of their constructors like other wrong input."""
        try:
            super().instantiate_classes()
            check_checkpoint_weights(self.model, self.config[self.config.subcommand].ckpt_path)
        except CONSTRUCTOR_ERRORS as error:
            self.parser.error(str(error), error)
