"""``kdlight COMMAND ...``: Lightning's commands, and those that are no method of its Trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kdlight.cli.cache import cache
from kdlight.cli.doctor import doctor
from kdlight.cli.export import export
from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.cli.objectives import objectives
from kdlight.cli.traces import traces

# what is no method of the Trainer: a function of the arguments after its name
COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "cache": cache,
    "doctor": doctor,
    "export": export,
    "objectives": objectives,
    "traces": traces,
}


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``kdlight`` command.

    Args:
        args: the arguments; None for those of the process.

    Example:
        >>> main(["objectives", "taid"])
        taid...
    """
    given = sys.argv[1:] if args is None else args
    if given and given[0] in COMMANDS:
        COMMANDS[given[0]](given[1:])
        return
    also = ", ".join(f"kdlight {name} --help" for name in COMMANDS)
    about = {"description": f"Knowledge distillation. There are also: {also}"}
    DistillationCLI(args, parser_kwargs=about)
