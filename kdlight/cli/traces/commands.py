"""The parser of the commands for traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from jsonargparse import ArgumentParser

from kdlight.cli.errors import exit_with, explain, one_line_errors, shows_tracebacks
from kdlight.cli.traces.generate import generate
from kdlight.cli.traces.score import score
from kdlight.cli.traces.select import select
from kdlight.cli.traces.verify import verify

COMMANDS: dict[str, Callable[..., None]] = {
    "generate": generate,
    "verify": verify,
    "score": score,
    "select": select,
}


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and exit with 2; ``--traceback`` shows all details."""
        # the parser of a class raises; the parser of the command reports it
        if not self.exit_on_error or (shows_tracebacks() and ex is None):
            super().error(message, ex)
        exit_with(explain(message), ex)


def run_command(args: list[str]) -> None:
    """Run a command for traces; an error is one line, and the exit code 2."""
    parser = Parser(prog="kdlight traces", description="Make and select files of traces.")
    commands = parser.add_subcommands()
    for name, function in COMMANDS.items():
        command = Parser(description=(function.__doc__ or "").split("\n")[0])
        command.add_argument("--config", action="config", help="file of options")
        command.add_function_arguments(function, as_group=False)
        commands.add_subcommand(name, command)
    options = parser.parse_args(args)
    with one_line_errors():
        arguments = parser.instantiate_classes(options)[options.subcommand]
        values = {name: value for name, value in vars(arguments).items() if name != "config"}
        COMMANDS[options.subcommand](**values)
