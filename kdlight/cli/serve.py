"""``kdlight serve --config X``: serve the teacher of a fit."""

from __future__ import annotations

from kdlight.cli.serve_options import add_options
from kdlight.cli.short_help import show_help

DESCRIPTION = "Serve the teacher of --config, for fits in other processes and on other machines."


def serve(args: list[str]) -> None:
    """Serve until SIGINT or SIGTERM; an error is one line, and the exit code 2."""
    show_help(args, "serve", DESCRIPTION, add_options)
    from kdlight.cli.errors import one_line_errors

    with one_line_errors():  # a package that is not installed
        from kdlight.cli.serve_cli import ServeCLI

    parser_kwargs = {"description": DESCRIPTION}
    ServeCLI(args, run=False, parser_kwargs=parser_kwargs, save_config_callback=None).serve()
