"""``kdlight doctor --config ...``: check a run before it starts."""

from __future__ import annotations

import sys

from kdlight.cli.short_help import show_help

DESCRIPTION = (
    "Check a fit with these options, and estimate the memory of each rank. Nothing is trained, and"
    " no file is left. The exit code is 1 if the run cannot work. --paths lists the modules of"
    " both networks with the shapes of their outputs, which objectives on features compare."
)

PATHS = "--paths"


def doctor(args: list[str]) -> None:
    """Check a run before it starts, and exit with 1 if it cannot work.

    It takes the options of ``kdlight fit``, trains nothing and leaves no file.
    """
    show_help(args, "doctor", DESCRIPTION, lambda parser: None)
    from kdlight.cli.preflight import check

    report = check([each for each in args if each != PATHS], DESCRIPTION, paths=PATHS in args)
    print(report)
    if report.errors:
        sys.exit(1)
