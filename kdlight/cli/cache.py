"""``kdlight cache --config X --output DIR``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from kdlight.cache.cache_pass import write_cache
from kdlight.cache.settings import Settings
from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.modules.checkpoint_metadata import describe_config

TRAINER = {
    "callbacks": None,
    "logger": False,
    "enable_checkpointing": False,
    "fast_dev_run": False,
    "overfit_batches": 0.0,
    "limit_test_batches": None,
}
"""A trainer that does not train, and sees all data."""


class CacheCLI(DistillationCLI):
    """Reads the config of a fit, and takes from it the teacher, the data and the devices."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what a cache is."""
        parser.add_argument("--output", type=str, required=True, help="Folder to write to.")
        parser.add_argument(
            "--k", type=int | None, default=50, help="Tokens kept a position; null for all."
        )
        parser.add_argument(
            "--top_p", type=float | None, default=None, help="Keep only those with this mass."
        )
        parser.add_argument(
            "--bits", type=int, default=8, help="Bits of a log-probability; 32 is exact."
        )
        parser.add_argument(
            "--shard_positions",
            type=int,
            default=2**16,
            help="Positions of a shard: about how many an interruption loses.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the arguments; the process was started with the command before them."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        pass  # a cache begins from no checkpoint

    def before_instantiate_classes(self) -> None:
        """What belongs to a training run is not made."""
        for name, value in TRAINER.items():
            self.config["trainer"][name] = value

    def instantiate_classes(self) -> None:
        """Report what a constructor refuses, or does not fit, before anything is run."""
        with self._one_line():
            super(DistillationCLI, self).instantiate_classes()

    def write(self) -> None:
        """Write the cache."""
        with self._one_line():
            write_cache(
                self.model,
                self.datamodule,
                self.trainer,
                self.config["output"],
                Settings(self.config["k"], self.config["top_p"], self.config["bits"]),
                shard_positions=self.config["shard_positions"],
                names={**self.model.describe_run(), "data": self._data()},
            )

    def _data(self) -> str:
        return describe_config(yaml.safe_load(self.parser.dump(self.config))["data"])

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, OSError, ImportError) as error:
            self.parser.error(str(error), error)


def cache(args: list[str]) -> None:
    """Write a cache; what is wrong is one line, and the exit code 2."""
    about = "Write a teacher's answers to disk; --config is that of the fit to come."
    parser_kwargs = {"description": about}
    # the manifest tells what was asked for; a copy of the config would lie where one stands
    CacheCLI(args, run=False, parser_kwargs=parser_kwargs, save_config_callback=None).write()
