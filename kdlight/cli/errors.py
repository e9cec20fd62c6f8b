"""Errors of the command line: one line instead of a traceback or a long message of the parser."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from pydoc import locate
from typing import NoReturn

TRACEBACK = "--traceback"
TRACEBACK_HELP = "Show the traceback of an error instead of one line; so does KDLIGHT_TRACEBACK=1."
WRONG_INPUT = (ValueError, TypeError, OSError, ImportError)
"""Errors for wrong arguments and missing files; those of Lightning and kdlight are among them."""

NOISE = re.compile(
    r"\s*(- Expected a <class 'NoneType'>|Does not validate against|Subtypes:|Errors:"
    r"|Given value type:|Given value: .{80}"
    r"|- Not a valid subclass of|Subclass types expect one of|- a (class path|dict|subclass) )"
)

_wanted: ContextVar[bool] = ContextVar("traceback", default=False)


@contextmanager
def tracebacks(wanted: bool) -> Iterator[None]:
    """Show the tracebacks of errors within this context, if ``wanted``."""
    token = _wanted.set(wanted or _wanted.get())
    try:
        yield
    finally:
        _wanted.reset(token)


def shows_tracebacks() -> bool:
    """Return whether the user asked for tracebacks.

    Example:
        >>> with tracebacks(True):
        ...     shows_tracebacks()
        True
    """
    variables = (os.environ.get(name) for name in ("KDLIGHT_TRACEBACK", "JSONARGPARSE_DEBUG"))
    return _wanted.get() or any(value not in (None, "", "0", "false") for value in variables)


def exit_with(message: str, error: BaseException | None = None) -> NoReturn:
    """Print one error and exit with code 2; raise it instead if the user wants tracebacks."""
    if error is not None and shows_tracebacks():
        raise error
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors of wrong input in one line, and exit with code 2."""
    try:
        yield
    except WRONG_INPUT as error:
        exit_with(describe(error), error)


def describe(error: BaseException) -> str:
    """Return the message of an error, with what its type alone says.

    Example:
        >>> describe(KeyError("student")), describe(ModuleNotFoundError("No module named 'a'"))
        ("KeyError: 'student'", "No module named 'a'")
    """
    text = str(error).strip()
    if text and isinstance(error, WRONG_INPUT):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


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
    from kdlight.objectives import OBJECTIVES

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
