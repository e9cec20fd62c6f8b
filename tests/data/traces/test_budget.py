"""Responses are divided among prompts as the authors of GVM do, and by its formula."""

from __future__ import annotations

import random
from fractions import Fraction
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdlight.data.traces import allocate_budget
from kdlight.data.traces.budget import budget_ratios
from tests.methods.test_conformance import read

(VECTOR,) = (Path(__file__).parents[2] / "conformance" / "gvm").glob("*.safetensors")


def test_the_vectors_of_the_authors_are_met() -> None:
    meta, tensors = read(VECTOR)
    hyper = meta["hparams"]
    numbers = tensors["grad_norm"], tensors["accept_rate"]
    options = {"alpha": hyper["alpha"], "beta": hyper["beta"]}
    ratios = torch.tensor(budget_ratios(*numbers, **options), dtype=torch.float64)
    torch.testing.assert_close(ratios, tensors["expected_ratio"], rtol=1e-9, atol=0)
    counts: Any = allocate_budget(*numbers, hyper["total"], **options)  # type: ignore[call-overload]
    assert counts == tensors["expected_counts"].tolist()
    names = [f"prompt {i}" for i in range(len(counts))]
    by_id = [dict(zip(names, values.tolist(), strict=True)) for values in numbers]
    allocated = allocate_budget(by_id[0], by_id[1], hyper["total"], **options)
    assert allocated == dict(zip(names, counts, strict=True))


@pytest.mark.parametrize("seed", range(10))
def test_numbers_sum_to_the_total_and_follow_the_formula(seed: int) -> None:
    draw = random.Random(seed)
    norms = [draw.choice([0.0, draw.random() * 10]) for _ in range(40)] + [1.0]
    rates = [draw.choice([0.0, 1.0, draw.randrange(9) / 8]) for _ in range(40)] + [0.5]
    total, alpha, beta = draw.randrange(1, 500), draw.random(), draw.choice([1.0, 2.0, 3.5])
    numbers = allocate_budget(norms, rates, total, alpha=alpha, beta=beta)
    weights = [
        g / (p + alpha / p ** (beta - 1)) ** 0.5 if g and p else 0.0
        for g, p in zip(norms, rates, strict=True)
    ]
    assert sum(numbers) == total
    for number, weight in zip(numbers, weights, strict=True):
        assert abs(number - total * weight / sum(weights)) < 1
        assert number == 0 or weight > 0


def test_the_order_of_the_prompts_does_not_matter() -> None:
    names = [f"{i:02}" for i in range(30)]
    norms = {name: 1.0 + i % 3 for i, name in enumerate(names)}
    rates = {name: (1 + i % 4) / 4 for i, name in enumerate(names)}
    expected = allocate_budget(norms, rates, 101)
    for seed in range(3):
        order = random.Random(seed).sample(names, len(names))
        again = allocate_budget({n: norms[n] for n in order}, dict(reversed(rates.items())), 101)
        assert again == expected
        assert list(again) == order


def test_easy_prompts_and_hopeless_ones_get_nothing_within_limits() -> None:
    norms, rates = [1.0, 1.0, 1.0, 1.0], [1.0, 0.75, 0.5, 0.01]
    assert min(allocate_budget(norms, rates, 100)) > 0
    limited = allocate_budget(norms, rates, 100, max_accept=0.75)
    assert limited[0] == 0
    assert limited[1:] == allocate_budget(norms[1:], rates[1:], 100)
    # expected correct responses are counted before anything is dropped
    ratios: Any = budget_ratios(norms, rates)
    expected = [100 * ratio * rate for ratio, rate in zip(ratios, rates, strict=True)]
    limited = allocate_budget(norms, rates, 100, min_expected=sorted(expected)[1])
    assert [number > 0 for number in limited] == [e > min(expected) for e in expected]
    assert sum(limited) == 100
    assert allocate_budget(norms, rates, 100, max_accept=1.0, min_expected=0) == allocate_budget(
        norms, rates, 100
    )


def test_powers_that_no_float_holds_are_no_error() -> None:
    assert allocate_budget([1.0, 1.0], [1e-300, 1.0], 8, beta=9.0) == [0, 8]
    assert allocate_budget([1e308, 1e308], [1e-300, 1e-300], 8, beta=3.0) == [4, 4]
    assert allocate_budget([1.0, 3.0], [1.0, 1.0], 8, alpha=0) == [2, 6]
    assert allocate_budget([5e-324], [5e-324], 3, beta=-50.0) == [3]


def test_arrays_and_fractions_are_numbers() -> None:
    norms, rates = [1.0, 2.0], [0.5, 1.0]
    expected = allocate_budget(norms, rates, 9)
    arrays: Any = (np.array(norms), torch.tensor(rates))
    assert allocate_budget(arrays[0], arrays[1], 9) == expected
    assert allocate_budget([Fraction(1), Fraction(2)], [Fraction(1, 2), 1], 9) == expected  # type: ignore[list-item]


NORMS = [1.0, 2.0]
RATES = [0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total": 0}, "total must be at least 1, got 0"),
        ({"total": -3}, "total must be at least 1, got -3"),
        ({"total": 2.5}, "total must be an integer"),
        ({"total": nan}, "total must be an integer"),
        ({"alpha": -1}, "alpha must be at least 0"),
        ({"alpha": nan}, "alpha must be a finite number"),
        ({"beta": inf}, "beta must be a finite number"),
        ({"beta": "2"}, "beta must be a number"),
        ({"max_accept": 1.5}, r"max_accept must be in \[0, 1\]"),
        ({"min_expected": -1}, "min_expected must be at least 0"),
        ({"gradient_norm": [nan, 1.0]}, "gradient_norm must be a finite number"),
        ({"gradient_norm": [-1.0, 1.0]}, "gradient_norm must be at least 0"),
        ({"gradient_norm": ["1", 1.0]}, "gradient_norm must be a number"),
        ({"gradient_norm": [1.0]}, "one number for each prompt, got 1 and 2"),
        ({"gradient_norm": {"a": 1.0}}, "accept_rate must be a mapping like the other one"),
        ({"gradient_norm": 3.0}, "gradient_norm must be a mapping from prompt ids to numbers"),
        ({"gradient_norm": torch.ones(1, 2)}, "gradient_norm must be a number|each prompt"),
        ({"accept_rate": [0.5, 1.01]}, r"accept_rate must be in \[0, 1\]"),
        ({"accept_rate": [nan, 0.5]}, "accept_rate must be a finite number"),
        ({"accept_rate": [0.0, 0.0]}, "none of 2 prompts has both"),
        ({"gradient_norm": [], "accept_rate": []}, "none of 0 prompts has both"),
        ({"gradient_norm": {}, "accept_rate": {}}, "at least one entry"),
        ({"gradient_norm": {"a": 1.0}, "accept_rate": {"b": 1.0}}, "'a' is only in gradient_norm"),
        ({"max_accept": 0.25}, "no prompt is left to share a total of 8"),
        ({"min_expected": 9}, "no prompt is left to share a total of 8"),
    ],
    ids=range(25),
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"gradient_norm": NORMS, "accept_rate": RATES, "total": 8, **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        allocate_budget(**given)
