"""Lightning's parser for configs that include others, with errors of one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse.typing import Path_fr
from lightning.pytorch.cli import LightningArgumentParser
from omegaconf.errors import OmegaConfBaseException

from kdlight.cli.config_files import read_config, to_text
from kdlight.cli.errors import exit_with, explain, shows_tracebacks


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

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse arguments; a reference ``${...}`` to what is not there is an error of one line."""
        try:
            return super().parse_args(*args, **kwargs)
        except OmegaConfBaseException as error:
            self.error(f"{str(error).splitlines()[0]}; a config refers to it as ${{...}}", error)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and exit with 2; ``--traceback`` shows all details."""
        # the parser of a class in a config raises; the parser of the command reports it
        if not self.exit_on_error or (shows_tracebacks() and ex is None):
            super().error(message, ex)
        exit_with(explain(message), ex)
