"""Lightning's command line over kdlight's modules."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, set_parsing_settings  # pyright: ignore[reportPrivateImportUsage]
from jsonargparse.typing import Path_fr
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

# imported so that classes can be named without their path: `--model.objective ForwardKL`
from kdlight import callbacks, models, objectives  # noqa: F401
from kdlight.cli.config_files import read_config, to_text
from kdlight.cli.conflicts import HELP, OnConflict, check_takes, settle
from kdlight.cli.errors import explain
from kdlight.data import DigitsDataModule, TextDataModule, TracesDataModule  # noqa: F401
from kdlight.modules import StandaloneModule

REFUSALS = (ValueError, TypeError, OSError, ImportError, MisconfigurationException)
"""What a constructor raises that does not like its arguments, or this machine."""


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
        with Path_fr(str(path)).relative_path_context():  # for other paths in the config
            return self.parse_string(content, os.path.basename(path), *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and exit with 2; ``JSONARGPARSE_DEBUG=1`` shows everything."""
        # the parser of a class inside a config raises, and the one of the command tells the whole
        if not self.exit_on_error or "JSONARGPARSE_DEBUG" in os.environ:
            super().error(message, ex)
        print(f"error: {explain(message)}", file=sys.stderr)
        sys.exit(2)


class DistillationCLI(LightningCLI):
    """LightningCLI that builds a `kdlight.DistillationModule` or a subclass of it.

    A config may refer to its own keys from the root (``${model.init_args.temperature}``), and an
    override on the command line moves what refers to it too.

    Args:
        args: the arguments, the command first; None for those of the process.
        parser_kwargs: for the parser, and by the name of a command for the parser of that.
        **kwargs: what else `lightning.pytorch.cli.LightningCLI` takes.

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
        """Use our parser, also for the subcommands."""
        parser = Parser(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ActionConfigFile, help="A config, or several to lay over it."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what decides between a checkpoint and the command line."""
        parser.add_argument("--on_conflict", type=OnConflict, default="error", help=HELP)

    def _parse_ckpt_path(self) -> None:
        # Lightning lays the hyper-parameters of a checkpoint over the command line without a word
        try:
            self.config = settle(self.parser, self.config)
        except ValueError as error:
            self.parser.error(str(error), error)

    def instantiate_classes(self) -> None:
        """Report what a constructor refuses like any other bad input: nothing has started yet."""
        try:
            super().instantiate_classes()
            check_takes(self.model, self.config[self.config.subcommand].ckpt_path)
        except REFUSALS as error:
            self.parser.error(str(error), error)
