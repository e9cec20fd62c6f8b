"""Checks of texts and numbers that a trace holds, with the name of the field in each error."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from numbers import Real
from typing import Any

from kdlight.checks import check_finite, check_type


def check_text(name: str, value: Any) -> None:
    """Raise an error for what is no text that can be written to a file.

    Raises:
        TypeError: If it is no string.
        ValueError: If it has a lone surrogate, half of a character of two 16-bit units.

    Example:
        >>> check_text("response", 42)
        Traceback (most recent call last):
        TypeError: response must be a text, got 42 (int)
    """
    check_type(name, value, str, "a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode: it has the lone surrogate {value[error.start]!r} at"
            f" character {error.start}"
        ) from error


def check_texts(name: str, value: Any, *, one: str) -> None:
    """Raise an error for what is no list of texts, or an empty one; ``one`` is what each is.

    Raises:
        TypeError: If it is no list of texts.
        ValueError: If it is empty, or a text is not valid Unicode.

    Example:
        >>> check_texts("words", "wait", one="word")
        Traceback (most recent call last):
        TypeError: words must be a list of texts, got 'wait' (str)
    """
    if isinstance(value, str):
        raise TypeError(f"{name} must be a list of texts, got {value!r} (str)")
    check_type(name, value, Sequence, "a list of texts")
    if not value:
        raise ValueError(f"{name} must hold at least one {one}, got none")
    for text in value:
        check_text(name, text)


def check_number(name: str, value: Any, *, finite: bool = True) -> None:
    """Raise an error for what is no number, or is NaN; ``finite=False`` allows infinity.

    Raises:
        TypeError: If it is no number. True and False are 1 and 0.
        ValueError: If it is NaN, or infinite.

    Example:
        >>> check_number("score", float("nan"))
        Traceback (most recent call last):
        ValueError: score must be a finite number, got nan
    """
    check_type(name, value, (Real, bool), "a number")
    if finite:
        check_finite(name, value)
    elif isnan(value):
        raise ValueError(f"{name} must be a number, got {value}")
