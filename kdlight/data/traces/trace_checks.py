"""Checks of what a trace holds, with the name of the field in each error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from numbers import Real
from typing import Any

from kdlight.checks import check_finite, check_integer, check_type


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


def check_messages(name: str, value: Any) -> None:
    """Raise an error for what is no list of messages with a role and a content.

    Raises:
        TypeError: If it is no list of mappings with two texts.
        ValueError: If it is empty, or a message lacks one of the two.

    Example:
        >>> check_messages("prompt", [{"content": "hello"}])
        Traceback (most recent call last):
        ValueError: prompt: message 1 has no 'role', its fields are ['content']
    """
    check_type(name, value, Sequence, "a text or a list of messages")
    if not value:
        raise ValueError(f"{name} must hold at least one message, got none")
    for number, message in enumerate(value, start=1):
        check_type(f"{name}: message {number}", message, Mapping, "an object")
        for field in ("role", "content"):
            if field not in message:
                raise ValueError(
                    f"{name}: message {number} has no {field!r}, its fields are {sorted(message)}"
                )
            check_text(f"{name}: {field} of message {number}", message[field])


def check_prompt(value: Any) -> None:
    """Raise an error for what is neither a text nor a list of messages."""
    if isinstance(value, str):
        check_text("prompt", value)
    else:
        check_messages("prompt", value)


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
    check_type(name, value, Real, "a number")
    if finite:
        check_finite(name, value)
    elif isnan(value):
        raise ValueError(f"{name} must be a number, got {value}")


def check_trace(trace: Any) -> None:
    """Raise an error for a field of a trace that holds a value of another kind."""
    check_prompt(trace.prompt)
    check_text("response", trace.response)
    check_text("prompt_id", trace.prompt_id)
    for name in ("score", "difficulty", "perplexity"):
        value = getattr(trace, name)
        if value is not None:
            check_number(name, value, finite=name != "perplexity")
    if trace.n_tokens is not None:
        check_integer("n_tokens", trace.n_tokens, 0)
    check_type("finished", trace.finished, (bool, type(None)), "true, false or absent")
    if trace.teacher is not None:
        check_text("teacher", trace.teacher)
    check_type("meta", trace.meta, Mapping, "an object")
