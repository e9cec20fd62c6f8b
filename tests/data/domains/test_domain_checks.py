"""Domains and weights that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.domains.domain_checks import check_domains, check_weights


@pytest.mark.parametrize(
    ("domains", "error", "message"),
    [
        (["a", "b"], TypeError, "domains must be files by the name of the domain"),
        ({1: None, "b": None}, TypeError, "domains must be files by the name"),
        ({"": None, "b": None}, ValueError, "names without a '/', got ''"),
        ({"a/c": None, "b": None}, ValueError, "names without a '/', got 'a/c'"),
        ({}, ValueError, "two or more domains"),
        ({"a": "x.txt"}, ValueError, "two or more domains to draw from, got \\['a'\\]; for one"),
    ],
)
def test_domains_are_files_by_name(domains: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_domains(domains)


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ("equal", ValueError),
        ({"a": 1.0}, ValueError),
        ({"a": 0.5, "c": 0.5}, ValueError),
        ({"a": 0.7, "b": 0.7}, ValueError),
        ({"a": 1.5, "b": -0.5}, ValueError),
        ({"a": "half", "b": 0.5}, TypeError),
        ([0.5, 0.5], TypeError),
    ],
)
def test_wrong_weights_are_refused(weights: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="weights must be"):
        check_weights(weights, ["a", "b"])


def test_weights_by_name_and_by_word_are_taken() -> None:
    for weights in ("uniform", "proportional", {"b": 0.25, "a": 0.75}):
        check_weights(weights, ["a", "b"])
