"""``kdlight COMMAND ...``: Lightning's commands, and the commands of kdlight."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kdlight.cli.cache import cache
from kdlight.cli.doctor import doctor
from kdlight.cli.export import export
from kdlight.cli.lightning_cli import DistillationCLI
from kdlight.cli.objectives import objectives
from kdlight.cli.traces import traces

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "cache": cache,
    "doctor": doctor,
    "export": export,
    "objectives": objectives,
    "traces": traces,
}
"""Commands that are not methods of the Trainer: functions of the arguments after their name."""


def main(args: list[str] | None = None) -> None:
    """Entry point of the ``kdlight`` command.

    Args:
        args: the arguments; None for those of the process.

    Example:
        >>> main(["objectives", "taid"])
        taid...
    """
    words = sys.argv[1:] if args is None else args
    if words and words[0] in COMMANDS:
        COMMANDS[words[0]](words[1:])
        return
    others = ", ".join(f"kdlight {name} --help" for name in COMMANDS)
    description = f"Knowledge distillation. Other commands: {others}"
    DistillationCLI(args, parser_kwargs={"description": description})
