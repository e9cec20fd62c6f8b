"""Functions that a config may name: a rewriter, an end of a response and a verifier."""

from __future__ import annotations

from kdlight.data.traces import Trace


def shorten(trace: Trace) -> str:
    """Return the response without the word before its number."""
    return trace.response.removeprefix("response ")


def finish(trace: Trace, start: str) -> str:
    """Return a last digit, which is even."""
    return "0"


def is_even(trace: Trace) -> bool:
    """Return whether a response ends with an even digit."""
    return trace.response[-1:] in tuple("02468")
