"""``kdlight export --ckpt_path X --output DIR``."""

from __future__ import annotations

import sys

from jsonargparse import ArgumentParser

from kdlight.export import export_checkpoint


def export(args: list[str]) -> None:
    """Export the student of a checkpoint; what is wrong is one line, and the exit code 2."""
    parser = ArgumentParser(
        prog="kdlight export", description="Save the student of a checkpoint with save_pretrained."
    )
    parser.add_function_arguments(export_checkpoint)
    options = parser.parse_args(args)
    try:
        export_checkpoint(**vars(parser.instantiate_classes(options)))
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
