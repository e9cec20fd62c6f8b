"""``kdlight export --ckpt_path X --output DIR``: save the student of a checkpoint."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from kdlight.cli.errors import one_line_errors
from kdlight.export import export_checkpoint


def export(args: list[str]) -> None:
    """Export the student of a checkpoint; an error is one line, and the exit code 2."""
    parser = ArgumentParser(
        prog="kdlight export", description="Save the student of a checkpoint with save_pretrained."
    )
    parser.add_function_arguments(export_checkpoint)
    options = parser.parse_args(args)
    with one_line_errors():
        export_checkpoint(**vars(parser.instantiate_classes(options)))
