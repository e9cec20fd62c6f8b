"""What is found to be wrong, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing to know before a run.

    Attributes:
        level: ``"error"`` where the run cannot work, ``"warning"`` where it may not do what is
            meant, or where something could not be looked at.
        text: what was found, and what to do.

    Example:
        >>> warning("gradients are not clipped").level
        'warning'
    """

    level: Literal["error", "warning"]
    text: str


def error(text: str) -> Finding:
    """The run cannot work."""
    return Finding("error", text)


def warning(text: str) -> Finding:
    """The run may not do what is meant."""
    return Finding("warning", text)


def reason(exception: BaseException) -> str:
    """The first line of what an exception says, or its name where it says nothing."""
    lines = str(exception).strip().splitlines()
    return lines[0] if lines else type(exception).__name__
