"""``kdlight fit --config ...``: Lightning's command line over kdlight's modules."""

from __future__ import annotations

from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from kdlight import callbacks, data, models, objectives, teachers  # noqa: F401  (known by name)
from kdlight.modules import DistillationModule


class DistillationCLI(LightningCLI):
    """LightningCLI with absolute interpolations, so that a number is written once.

    ``${model.init_args.metrics_temperature}`` in a config follows an override on the command line.
    """


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``kdlight`` command."""
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    DistillationCLI(
        DistillationModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_kwargs={"parser_mode": "omegaconf+"},
        save_config_kwargs={"overwrite": True},
        args=args,
    )
