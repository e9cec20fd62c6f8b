"""Compares mathematical expressions by the package math-verify, in a process of its own.

The process reads lines of JSON with a reference answer and an answer, and writes a line with the
result. It imports nothing of kdlight, so that it starts quickly.
"""

from __future__ import annotations

import json
import os
import signal
import string
import sys
from typing import Any

SECONDS = 5.0
"""Time of the processor that a comparison may take, whatever else the machine does."""

MEMORY = 4 << 30
"""Bytes that a comparison may take."""


def compare(reference: str, answer: str) -> str:
    """Return ``"right"``, ``"wrong"``, or ``"unreadable"`` for a reference that is no expression.

    Args:
        reference: a number or an expression, in LaTeX or not.
        answer: the answer of a response, as it is written there.
    """
    from math_verify import parse, verify  # pyright: ignore[reportMissingImports]

    # without the package's own time limits, which work in the main thread only
    gold: Any = parse(rf"\boxed{{{reference}}}", parsing_timeout=0)
    gold = gold or parse(reference, parsing_timeout=0)
    parsed = any(not isinstance(each, str) for each in gold)
    if not parsed and not (gold and reference.strip(string.punctuation + string.whitespace)):
        return "unreadable"
    try:
        given: Any = parse(answer, parsing_timeout=0)
        return "right" if verify(gold, given, timeout_seconds=0) else "wrong"
    except Exception:  # sympy can fail in any way
        return "wrong"


def limit_memory() -> None:
    """Let no comparison fill the memory of the machine, where the system can forbid it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def limit_time(seconds: float) -> None:
    """End this process when it has computed for so long; 0 removes the limit."""
    if hasattr(signal, "setitimer"):  # not on Windows, where only the parent has a limit
        signal.setitimer(signal.ITIMER_PROF, seconds)


def serve() -> None:
    """Answer the lines of the standard input until it ends."""
    import math_verify  # noqa: F401  # pyright: ignore[reportMissingImports]

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a package prints is no answer
    limit_memory()
    for line in sys.stdin:
        limit_time(SECONDS)
        try:
            result = compare(*json.loads(line))
        except Exception:  # the parser can fail in any way
            result = "unreadable"
        limit_time(0)
        answers.write(result + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
