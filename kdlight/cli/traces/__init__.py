"""``kdlight traces``: the commands for a teacher's answers, listed without importing torch."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from kdlight.cli.source_code import find

COMMANDS = ("generate", "verify", "score", "select")


def traces(args: list[str]) -> None:
    """Run a command for traces; an error is one line, and the exit code 2."""
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        sys.exit(0 if args else 2)
    from kdlight.cli.traces.commands import run_command

    run_command(args)


def _help() -> str:
    rows = []
    for name in COMMANDS:
        command = find(f"kdlight.cli.traces.{name}.{name}")
        text = "" if command is None else command.doc.split("\n")[0]
        rows.append(f"  {f'kdlight traces {name} --help':<32}{text}")
    parser = ArgumentParser(
        prog="kdlight traces",
        usage="kdlight traces COMMAND [options]",
        description="Make and select files of traces. The commands, each with its options:",
        epilog="\n".join(rows),
        formatter_class=RawDescriptionHelpFormatter,
        add_help=False,
    )
    return parser.format_help().rstrip()
