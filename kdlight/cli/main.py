"""``kdlight COMMAND ...``: Lightning's commands, and the commands of kdlight.

A command is imported when it is used: torch and Lightning take seconds, and help and lists do
without them.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from kdlight.cli.errors import TRACEBACK, TRACEBACK_HELP, exit_with, tracebacks

LIGHTNING = {
    "fit": "Train, and validate on the way.",
    "validate": "Compute the metrics of the validation data.",
    "test": "Compute the metrics of the test data.",
    "predict": "Compute logits or text, which the callback PredictionWriter writes.",
}
"""The commands that are methods of the Trainer."""

SUMMARIES = {
    "cache": "Write a teacher's logits to disk, for fits without it.",
    "doctor": "Check a fit before it starts, and estimate its memory.",
    "export": "Save the student of a checkpoint with save_pretrained.",
    "objectives": "List the objectives, or describe one.",
    "rank": "Rank students before any of them is trained.",
    "serve": "Serve a teacher to fits in other processes and on other machines.",
    "traces": "Sample a teacher's answers, or score them.",
}


def _command(name: str) -> Callable[[list[str]], None]:
    def run(args: list[str]) -> None:
        getattr(import_module(f"kdlight.cli.{name}"), name)(args)

    return run


COMMANDS: dict[str, Callable[[list[str]], None]] = {name: _command(name) for name in SUMMARIES}
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
    if os.getcwd() not in sys.path:  # an installed command does not see one's own modules
        sys.path.append(os.getcwd())
    with tracebacks(TRACEBACK in words):
        if words and words[0] in COMMANDS:
            COMMANDS[words[0]]([word for word in words[1:] if word != TRACEBACK])
        elif not words or words[0] in ("-h", "--help"):
            print(_help())
            sys.exit(0 if words else 2)
        else:
            _run_lightning(words[0], args)


def _run_lightning(first: str, args: list[str] | None) -> None:
    known = {**LIGHTNING, **COMMANDS}
    if first not in LIGHTNING and not first.startswith("-"):
        close = get_close_matches(first, known) or list(known)
        exit_with(f"unknown command {first!r}; did you mean {' or '.join(close)}?")
    from kdlight.cli.lightning_cli import DistillationCLI

    DistillationCLI(args, parser_kwargs={"description": "Knowledge distillation."})


def _help() -> str:
    rows = [*LIGHTNING.items(), *((name, SUMMARIES.get(name, "")) for name in COMMANDS)]
    commands = [f"  {f'kdlight {name} --help':<28}{text}" for name, text in rows]
    parser = ArgumentParser(
        prog="kdlight",
        usage="kdlight COMMAND [options]",
        description="Knowledge distillation. The commands, each with the options that it takes:",
        epilog="\n".join(commands),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(TRACEBACK, action="store_true", help=TRACEBACK_HELP)
    return parser.format_help().rstrip()
