"""Errors of the command line: one line instead of the long messages of the parser."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pydoc import locate
from typing import NoReturn

from kdlight.objectives import OBJECTIVES

NOISE = re.compile(
    r"\s*(- Expected a <class 'NoneType'>|Does not validate against|Subtypes:|Errors:"
    r"|Given value type:|Given value: .{80}"
    r"|- Not a valid subclass of|Subclass types expect one of|- a (class path|dict|subclass) )"
)


def exit_with(message: str) -> NoReturn:
    """Print one error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors of wrong input in one line, and exit with code 2."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        exit_with(str(error))


def explain(message: str) -> str:
    """Return the cause in a ``message`` of the parser, and what to do.

    Example:
        >>> explain("class_path 'X': module 'kdlight.objectives' has no attribute 'Nope'")[:31]
        "unknown objective 'Nope'; known"
    """
    for pattern, explanation in EXPLANATIONS:
        match = re.search(pattern, message, flags=re.DOTALL)
        if match:
            return explanation(*match.groups())
    kept = [line.strip(" -") for line in message.splitlines() if not NOISE.match(line)]
    return "\n  ".join(kept) or message


def _unknown_objective(name: str) -> str:
    known = ", ".join(sorted(cls.__name__ for cls in OBJECTIVES.values()))
    return f"unknown objective {name!r}; known: {known} (or a class_path of your own)"


def _unknown_option(path: str, option: str) -> str:
    cls = locate(path)
    options = ", ".join(signature(cls).parameters) if callable(cls) else ""
    return f"{path} has no option {option!r}" + (f"; it takes: {options}" if options else "")


EXPLANATIONS = (
    (r"module 'kdlight\.objectives' has no attribute '(\w+)'", _unknown_objective),
    (r"key='objective', val='([^']+)'", _unknown_objective),
    # the innermost class is the last one named before the option
    (r".*class_path '([\w.]+)':\s+Option '([^']+)' is not accepted", _unknown_option),
)
