"""A whole number divided in given proportions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from math import floor
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def apportion(total: int, weights: Mapping[Name, float]) -> dict[Name, int]:
    """Divide ``total`` by weights into integers that sum to it, with the largest remainder method.

    Args:
        total: the number to divide, at least 0.
        weights: weights that are finite, not negative and not all 0. Of equal remainders the first
            one in the mapping is rounded up.

    Example:
        >>> apportion(10, {"a": 1, "b": 1, "c": 2})
        {'a': 3, 'b': 2, 'c': 5}
    """
    fractions = {name: Fraction(weight) for name, weight in weights.items()}
    whole = sum(fractions.values())
    exact = {name: total * weight / whole for name, weight in fractions.items()}
    shares = {name: floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: shares[name] - exact[name])
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
