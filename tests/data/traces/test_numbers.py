"""Numbers in text are read as they are written, and compared exactly."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.numbers import last_number, read_number
from kdlight.data.traces.verifiers import number

EQUAL: list[tuple[Any, str]] = [
    (100_000, "1e5"),
    ("1e5", "it is 100,000."),
    (0.001, "1E-3"),
    (-5, "x = \N{MINUS SIGN}5"),
    (-5, "x=-5"),
    (5, "10-5"),  # a difference, or a hyphen
    (0.5, ".5"),
    (-0.5, "-.5"),
    ("1/2", ".50"),
    (0.75, "so 3/4"),
    ("6/8", "3 / 4"),
    (-0.75, "-3/4"),
    (0.75, r"\boxed{\frac{3}{4}}"),
    (-0.75, r"-\dfrac{3}{4}"),
    (3, "1,2,3"),
    (34, "12,34"),
    (1234.5, "$1,234.50"),
    (1234567, "1,234,567"),
    (2024, "1/2/2024"),
    (2024, "12.05.2024"),
    (5, "so...5"),
    (0, "-0"),
    (7, "+7"),
    ("9" * 400, "9" * 400),
    ("9" * 5000, "9" * 5000 + ".0"),
    ("1/" + "3" * 400, "2/" + "6" * 400),
]
DIFFERENT: list[tuple[Any, str]] = [
    (5, "1e5"),
    (5, "\N{MINUS SIGN}5"),
    (5, ".5"),
    (4, "3/4"),
    (3, "3/4"),
    (123, "1,2,3"),
    (1234, "12,34"),
    (0, "3/0"),
    (1, "1e-400"),
    (0, "1e-400"),
    ("9" * 400, "8" * 400),
    ("9" * 5000, "9" * 4999 + "8"),
    (10**17, "100000000000000001"),  # equal as floats
    (1, "1e" + "9" * 400),
    (1, "none"),
]


@pytest.mark.parametrize(("answer", "response"), EQUAL, ids=range(len(EQUAL)))
def test_a_number_is_found_in_any_notation(answer: Any, response: str) -> None:
    assert number(Trace("p", response, answer=answer))


@pytest.mark.parametrize(("answer", "response"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_another_number_is_not_the_answer(answer: Any, response: str) -> None:
    assert not number(Trace("p", response, answer=answer))


@pytest.mark.parametrize(
    "text", ["", "blue", "1,2,3", "7 apples", "nan", "inf", "1/0", "--1", "True"]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


PIECES = [
    *("1", "1,", ",222", "1,234", "-", ".", ".1", "1e", "9e9", "1 / ", "1/1/", "(1"),
    *(r"\frac", r"\frac{", r"\frac{1}", r"\frac{1}{2}", " ", r"\frac{1"),
]


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
def test_the_time_is_linear_in_the_length(piece: str) -> None:
    start = time.perf_counter()
    last_number(piece * (160_000 // len(piece)))
    last_number(r"\frac{1" + piece * (160_000 // len(piece)) + "x")
    assert time.perf_counter() - start < 2.0
