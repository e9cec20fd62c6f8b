"""Checks of domains and of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from kdlight.checks import check_type


def check_domains(domains: Any) -> None:
    """Raise an error for what is not the files of two or more domains.

    Raises:
        TypeError: It is no mapping from names.
        ValueError: Fewer than two domains, or a name that is empty.

    Example:
        >>> check_domains({"help": None})
        Traceback (most recent call last):
        ValueError: domains must name two or more domains to draw from, got ['help']; for one, ...
    """
    check_type("domains", domains, Mapping, "files by the name of the domain")
    for name in domains:
        check_type("domains", name, str, "files by the name of the domain")
        if not name.strip() or "/" in name:
            raise ValueError(f"domains must have names without a '/', got {name!r}")
    if len(domains) < 2:
        raise ValueError(
            f"domains must name two or more domains to draw from, got {list(domains)}; for one, use"
            " kdlight.data.TextDataModule"
        )


def check_weights(weights: Any, names: list[str]) -> None:
    """Raise an error for weights that are not of these domains.

    Raises:
        TypeError: They are neither a word nor numbers by name.
        ValueError: They are an unknown word, of other domains, or not in [0, 1] with sum 1.

    Example:
        >>> check_weights("equal", ["help", "code"])
        Traceback (most recent call last):
        ValueError: weights must be 'uniform', 'proportional' or a number for each of the ...
    """
    check_type("weights", weights, (str, Mapping), "'uniform', 'proportional' or numbers by name")
    if isinstance(weights, Mapping):
        for value in weights.values():
            check_type("weights", value, Real, "numbers by name")
        valid = set(weights) == set(names) and all(0 <= each <= 1 for each in weights.values())
        valid = valid and abs(sum(weights.values()) - 1) <= 1e-4
    else:
        valid = weights in ("uniform", "proportional")
    if not valid:
        raise ValueError(
            "weights must be 'uniform', 'proportional' or a number for each of the domains"
            f" {names}, in [0, 1] and of sum 1, got {weights!r}"
        )
