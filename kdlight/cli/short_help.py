"""Help of the commands that take the options of a fit as well, without the seconds that these take.

``kdlight fit --help`` imports torch and Lightning, to list the options of all their classes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser

from kdlight.cli.errors import TRACEBACK, TRACEBACK_HELP


def show_help(
    args: list[str], command: str, description: str, add_options: Callable[[Any], None]
) -> None:
    """Print the help of a command and exit, if ``args`` ask for it.

    Args:
        args: the arguments after the name of the command.
        command: that name.
        description: what the command does.
        add_options: adds the command's own options to a parser.

    Example:
        >>> show_help(["--config", "a.yaml"], "cache", "Write a cache.", lambda parser: None)
    """
    if not {"-h", "--help"} & set(args):
        return
    parser = ArgumentParser(
        prog=f"kdlight {command}",
        description=f"{description} It also takes the options of a fit, see kdlight fit --help.",
        usage=f"kdlight {command} --config FILE [options]",
    )
    parser.add_argument("-c", "--config", type=str, help="The config of a fit; more override it.")
    add_options(parser)
    parser.add_argument(TRACEBACK, action="store_true", help=TRACEBACK_HELP)
    print(parser.format_help().rstrip())
    sys.exit(0)
