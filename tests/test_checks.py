"""Checks of hyper-parameters: where each range ends, and what an error names."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
import torch

from kdlight.checks import (
    check_at_least,
    check_choice,
    check_finite,
    check_instance,
    check_integer,
    check_positive,
    check_positive_tensor,
    check_range,
    check_type,
)


def test_the_ends_of_a_range_are_allowed_unless_the_upper_one_is_open() -> None:
    check_range("beta", 0.0, 0.0, 1.0)
    check_range("beta", 1.0, 0.0, 1.0)
    check_range("beta", 0.0, 0.0, 1.0, open_high=True)
    with pytest.raises(ValueError, match=r"^beta must be in \[0.0, 1.0\), got 1.0$"):
        check_range("beta", 1.0, 0.0, 1.0, open_high=True)


@pytest.mark.parametrize("value", [-0.1, 1.1, inf, -inf, nan])
def test_a_number_outside_a_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^beta must be in \[0.0, 1.0\], got {value}$"):
        check_range("beta", value, 0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, inf, nan])
def test_a_number_that_is_not_positive_and_finite_is_refused(value: float) -> None:
    check_positive("temperature", 1e-300)
    with pytest.raises(ValueError, match=f"^temperature must be above 0 and finite, got {value}$"):
        check_positive("temperature", value)


@pytest.mark.parametrize("value", [0.0, -1.0, inf, nan])
def test_a_tensor_with_such_a_number_is_refused_where_it_can_be_read(value: float) -> None:
    good = torch.tensor([1.0, 1e-30])
    assert torch.equal(check_positive_tensor("temperature", good), good)
    wrong = torch.tensor([1.0, value])
    with pytest.raises(ValueError, match=f"^temperature must be above 0 and finite, got {value}$"):
        check_positive_tensor("temperature", wrong)
    unread = torch.func.vmap(lambda t: check_positive_tensor("temperature", t))(wrong)
    assert unread[0] == 1
    assert unread[1].isnan()


@pytest.mark.parametrize("value", [1.9, -inf, nan])
def test_a_number_below_a_minimum_is_refused(value: float) -> None:
    check_at_least("bins", 2, 2)
    check_at_least("bins", inf, 2)
    with pytest.raises(ValueError, match=f"^bins must be at least 2, got {value}$"):
        check_at_least("bins", value, 2)


@pytest.mark.parametrize("value", [inf, -inf, nan])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    check_finite("start", -1e300)
    with pytest.raises(ValueError, match=f"^start must be a finite number, got {value}$"):
        check_finite("start", value)


@pytest.mark.parametrize(("value", "choices"), [("max", ("mean", "sum")), (3, (1, 2))])
def test_a_value_that_is_not_among_the_choices_is_refused(value: Any, choices: Any) -> None:
    check_choice("option", choices[-1], choices)
    one, other = map(repr, choices)
    with pytest.raises(ValueError, match=f"^option must be one of {one}, {other}, got {value!r}$"):
        check_choice("option", value, choices)


@pytest.mark.parametrize("value", [2.0, "2", None, True], ids=repr)
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=f"^seed must be an integer, got {value!r}"):
        check_integer("seed", value)


def test_an_integer_outside_its_limits_is_refused() -> None:
    check_integer("seed", -(2**80))
    check_integer("seed", 2, 2, 2)
    with pytest.raises(ValueError, match="^seed must be at least 3, got 2$"):
        check_integer("seed", 2, 3)
    with pytest.raises(ValueError, match="^seed must be at most 1, got 2$"):
        check_integer("seed", 2, 0, 1)


def test_a_value_of_another_kind_is_refused() -> None:
    check_type("files", "a", (str, list), "a text or a list")
    with pytest.raises(TypeError, match=r"^files must be a text or a list, got 5 \(int\)$"):
        check_type("files", 5, (str, list), "a text or a list")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "None"),
        (dict, r"the class dict; create an instance: dict\(...\)"),
        ("text", "a value of type str"),
    ],
    ids=["none", "class", "text"],
)
def test_what_is_not_an_instance_is_refused(value: Any, got: str) -> None:
    check_instance("rule", {}, dict)
    with pytest.raises(TypeError, match=f"^rule must be an instance of dict, got {got}$"):
        check_instance("rule", value, dict)


@pytest.mark.parametrize("kinds", [int, float, (int, float), (int, type(None))])
def test_a_truth_value_is_no_number(kinds: Any) -> None:
    with pytest.raises(TypeError, match=r"lr must be a number, got True \(bool\)"):
        check_type("lr", True, kinds, "a number")
    check_type("lr", True, (bool, *(kinds if isinstance(kinds, tuple) else (kinds,))), "any")
