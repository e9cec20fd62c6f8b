"""``kdlight cache --config X --output DIR``: write a teacher's logits to disk."""

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
        parser.add_argument("--output", type=str, required=True, help="Folder to write to.")
        parser.add_argument(
            "--k",
            type=int | None,
            default=50,
            help="Tokens stored per position; null for all.",
        )
        parser.add_argument(
            "--top_p",
            type=float | None,
            default=None,
            help="Store tokens up to this mass.",
        )
        parser.add_argument(
            "--bits", type=int, default=8, help="Bits of a log-probability; 32 is exact."
        )
        parser.add_argument(
            "--shard_positions",
            type=int,
            default=2**16,
            help="Positions of a shard; an interruption loses about one shard.",
        )

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
        except (ValueError, TypeError, OSError, ImportError) as error:
            self.parser.error(str(error), error)


def cache(args: list[str]) -> None:
    """Write a cache; an error is one line, and the exit code 2."""
    description = "Write a teacher's logits to disk, for the fit of --config."
    parser_kwargs = {"description": description}
    # no copy of the config: the manifest of the cache contains its options
    CacheCLI(args, run=False, parser_kwargs=parser_kwargs, save_config_callback=None).write()
