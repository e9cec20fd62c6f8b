"""How text is generated: the options for Hugging Face, and arguments that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.models import Sampling


def test_sampling_is_from_the_whole_distribution() -> None:
    assert Sampling(temperature=0.5, top_p=0.9).options() == {
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 0,
    }


def test_temperature_0_is_greedy() -> None:
    greedy = Sampling(temperature=0.0, max_new_tokens=3).options()
    assert greedy == {"max_new_tokens": 3, "do_sample": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be finite"),
        ({"temperature": float("inf")}, "temperature must be finite"),
        ({"top_p": 0.0}, "top_p must be in"),
        ({"top_p": 1.5}, "top_p must be in"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "1"),
        ("temperature", True),
        ("top_p", None),
        ("max_new_tokens", 2.5),
        ("max_new_tokens", True),
        ("seed", 0.5),
        ("seed", None),
    ],
    ids=range(7),
)
def test_arguments_of_another_kind_are_refused(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be "):
        Sampling(**{name: value})
