"""``kdlight cache --config X --output DIR``: write a teacher's logits to disk."""

from __future__ import annotations

from kdlight.cli.cache_options import add_options
from kdlight.cli.short_help import show_help

DESCRIPTION = "Write a teacher's logits to disk, for the fit of --config."


def cache(args: list[str]) -> None:
    """Write a cache; an error is one line, and the exit code 2."""
    show_help(args, "cache", DESCRIPTION, add_options)
    from kdlight.cli.cache_cli import CacheCLI

    # no copy of the config: the manifest of the cache contains its options
    parser_kwargs = {"description": DESCRIPTION}
    CacheCLI(args, run=False, parser_kwargs=parser_kwargs, save_config_callback=None).write()
