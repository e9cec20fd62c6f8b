"""Whole numbers in given proportions sum to the total."""

from __future__ import annotations

import random

import pytest

from kdlight.data.traces.apportion import apportion


@pytest.mark.parametrize("seed", range(20))
def test_shares_sum_to_the_total_and_are_near_their_proportion(seed: int) -> None:
    draw = random.Random(seed)
    weights = {str(i): draw.choice([0.0, draw.random(), 1e-300, 1e6]) for i in range(50)}
    weights["one"] = 1.0
    total = draw.randrange(0, 2000)
    shares = apportion(total, weights)
    assert sum(shares.values()) == total
    whole = sum(weights.values())
    assert all(abs(shares[name] - total * weights[name] / whole) < 1 for name in weights)
    assert all(shares[name] == 0 for name in weights if weights[name] == 0)


def test_equal_remainders_are_given_in_the_order_of_the_names() -> None:
    assert apportion(2, {"b": 1, "a": 1, "c": 1}) == {"b": 1, "a": 1, "c": 0}


def test_huge_weights_are_no_infinite_sum() -> None:
    assert apportion(3, {"a": 1.5e308, "b": 1.5e308, "c": 1.5e308}) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("total", [10**17, 10**18 + 1])
def test_large_numbers_are_divided_exactly(total: int) -> None:
    assert sum(apportion(total, {"a": 1, "b": 1, "c": 1}).values()) == total
