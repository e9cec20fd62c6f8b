"""The findings of a check: a text and whether it is an error or a warning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        level: ``"error"`` if the run cannot work, ``"warning"`` if it may not do what was intended
            or if a check was not possible.
        text: what was found, and what to do.

    Example:
        >>> warning("gradients are not clipped").level
        'warning'
    """

    level: Literal["error", "warning"]
    text: str


def error(text: str) -> Finding:
    """Return the finding that the run cannot work."""
    return Finding("error", text)


def warning(text: str) -> Finding:
    """Return the finding that the run may not do what was intended."""
    return Finding("warning", text)


def reason(exception: BaseException) -> str:
    r"""Return the first line of the message of an exception, or its name if it has none.

    Example:
        >>> reason(ValueError("first\nsecond")), reason(KeyboardInterrupt())
        ('first', 'KeyboardInterrupt')
    """
    lines = str(exception).strip().splitlines()
    return lines[0] if lines else type(exception).__name__
