"""Checks of hyper-parameters. Each error names the argument, what is allowed and the value got."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any


def check_range(
    name: str, value: float, low: float, high: float, *, open_high: bool = False
) -> None:
    """Raise an error for a number outside ``[low, high]``, or ``[low, high)`` with ``open_high``.

    Raises:
        ValueError: If the number is outside the range. NaN is outside every range.

    >>> check_range("beta", 1.5, 0.0, 1.0)
    Traceback (most recent call last):
    ValueError: beta must be in [0.0, 1.0], got 1.5
    """
    if not low <= value <= high or (open_high and value == high):
        end = ")" if open_high else "]"
        raise ValueError(f"{name} must be in [{low}, {high}{end}, got {value}")


def check_positive(name: str, value: float) -> None:
    """Raise an error for a number that is not above 0 and finite.

    Raises:
        ValueError: If the number is 0, negative, infinite or NaN.

    >>> check_positive("temperature", 0.0)
    Traceback (most recent call last):
    ValueError: temperature must be above 0 and finite, got 0.0
    """
    if not 0 < value < inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def check_at_least(name: str, value: float, low: float) -> None:
    """Raise an error for a number below ``low``.

    Raises:
        ValueError: If the number is below ``low``, or NaN.

    >>> check_at_least("bins", 0, 1)
    Traceback (most recent call last):
    ValueError: bins must be at least 1, got 0
    """
    if not value >= low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def check_finite(name: str, value: float) -> None:
    """Raise an error for a number that is infinite or NaN.

    Raises:
        ValueError: If the number is not finite.

    >>> check_finite("start", inf)
    Traceback (most recent call last):
    ValueError: start must be a finite number, got inf
    """
    if not -inf < value < inf:  # which torch.compile can trace, unlike math.isfinite
        raise ValueError(f"{name} must be a finite number, got {value}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise an error for a value that is not among the choices.

    Raises:
        ValueError: If the value is not among the choices.

    >>> check_choice("reduction", "max", ("mean", "sum"))
    Traceback (most recent call last):
    ValueError: reduction must be one of 'mean', 'sum', got 'max'
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
