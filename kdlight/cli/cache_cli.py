"""The command line of a fit, of which the teacher and the data are used to write a cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from kdlight.cache.cache_pass import write_cache
from kdlight.cache.settings import Settings
from kdlight.checkpoints import check_writable
from kdlight.cli.cache_options import add_options
from kdlight.cli.errors import describe
from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.cli.run_errors import SETUP_ERRORS
from kdlight.modules.checkpoint_metadata import describe_config

TRAINER_OPTIONS = {
    "callbacks": None,
    "logger": False,
    "enable_checkpointing": False,
    "fast_dev_run": False,
    "overfit_batches": 0.0,
    "limit_test_batches": None,
}
"""Options of a Trainer that does not train, and reads all data."""


class CacheCLI(DistillationCLI):
    """Reads the config of a fit, and uses its teacher, data and devices."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the cache."""
        add_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments after the name of the command."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        pass  # a cache starts from no checkpoint

    def before_instantiate_classes(self) -> None:
        """Set Trainer options, so that nothing of a training run is created."""
        for name, value in TRAINER_OPTIONS.items():
            self.config["trainer"][name] = value

    def instantiate_classes(self) -> None:
        """Create the classes; an error of a constructor is one line."""
        with self._one_line_errors():
            super(DistillationCLI, self).instantiate_classes()

    def write(self) -> None:
        """Write the cache."""
        with self._one_line_errors():
            check_writable(self.config["output"])
            write_cache(
                self.model,
                self.datamodule,
                self.trainer,
                self.config["output"],
                Settings(self.config["k"], self.config["top_p"], self.config["bits"]),
                shard_positions=self.config["shard_positions"],
                names={**self.model.describe_run(), "data": self._describe_data()},
            )

    def _describe_data(self) -> str:
        return describe_config(yaml.safe_load(self.parser.dump(self.config))["data"])

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except SETUP_ERRORS as error:
            self.parser.error(describe(error), error)
