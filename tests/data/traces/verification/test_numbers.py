"""Numbers in text are read as they are written, and compared exactly."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.verification.numbers import last_number, read_number
from kdlight.data.traces.verification.verifiers import number

EQUAL: list[tuple[Any, str]] = [
    # integers and decimals
    (5, "so...5"),
    (0, "-0"),
    (7, "+7"),
    (0.5, ".5"),
    (-0.5, "-.5"),
    ("1/2", ".50"),
    (1234567, "1,234,567"),
    (1234.5, "$1,234.50"),
    (1000000, "1 000 000"),
    (1000000, "1\N{THIN SPACE}000\N{NARROW NO-BREAK SPACE}000"),
    (1000, r"1\,000"),
    (1000, r"\boxed{1{,}000}"),
    ("$1,234.50", "1234.5"),
    # signs: a minus between two numbers, or a hyphen, is none
    (-5, "x = \N{MINUS SIGN}5"),
    (-5, "x=-5"),
    (-5, "x = –5"),
    (-5, "答案是-5"),
    (5, "10-5"),
    (3, "5-3"),
    # exponents
    (100_000, "1e5"),
    ("1e5", "it is 100,000."),
    (0.001, "1E-3"),
    (100_000, "10^5"),
    (0.00003, r"3 \times 10^{-5}"),
    (0.00003, "3 × 10⁻⁵"),
    # fractions and mixed numbers
    (0.75, "so 3/4"),
    ("6/8", "3 / 4"),
    (-0.75, "-3/4"),
    (0.75, r"\boxed{\frac{3}{4}}"),
    (0.75, r"\frac34"),
    (-0.75, r"-\dfrac{3}{4}"),
    (-0.75, r"\frac{3}{-4}"),
    (1.5, "1 1/2"),
    (-1.5, "-1 1/2"),
    ("1 1/2", r"\boxed{1\frac{1}{2}}"),
    (2.5, "2½"),
    (12345.5, "12,345 1/2"),
    # units and percent
    (12, "12 apples"),
    (3, "3 km."),
    (3, "3km"),
    (50, "50%"),
    ("50%", "50"),
    (r"50\%", "50 percent"),
    ("3 km", "3 kilometers"),
    ("12 apples", "12 apples in all"),
    (5, r"\boxed{5 \text{ cm}^2}"),
    (90, r"\boxed{90^\circ}"),
    # words for powers of ten
    (5_000_000, "5 million"),
    (2500, "2.5 thousand dollars"),
    ("5 million", "5,000,000"),
    ("7 m", "7"),
    ("7", "7 m"),
    *((7, rf"\boxed{{7 \text{{ {unit}}}}}") for unit in "mgshLlNVJWK"),
    (7, r"\boxed{7 \, \text{ km}}"),
    ("7 feet", "7 ft"),
    ("7 ft", r"\boxed{7 \text{ feet}}"),
    ("7 inches", "7 in"),
    ("7 inch", "7 inches"),
    ("7 pounds", "7 lbs"),
    ("7 hrs", "7 hours"),
    ("7 liters", "7 L"),
    ("7 newtons", "7 N"),
    ("60 mph", "60 miles per hour"),
    ("60 km/h", "60 kilometers per hour"),
    ("60 m/s", r"\boxed{60 \text{ meters/second}}"),
    ("12 apples", "12 apples per child"),
    # equations: the value of one, or the end of a derivation
    (7, r"\boxed{x = 3 + 4 = 7}"),
    (7, r"\boxed{Thus, x = 7}"),
    (7, r"\boxed{f(2, 3) = 7}"),
    (6, r"\boxed{\gcd(12, 18) = 6}"),
    (1005, r"\boxed{1,000 + 5 = 1,005}"),
    (12, r"\boxed{boys and girls = 12}"),
    (7, r"\boxed{x &= 3 + 4 \\ &= 7}"),
    (7, r"\boxed{2x = 14 \Rightarrow x = 7}"),
    (7, r"\boxed{x =\quad 7}"),
    (7, "When x = 2, y = 7."),
    (7, "For a = 1, b = 2, c = 7"),
    (7, "a = 3, so b = 7"),
    (7, "The pens are 3, the total = 7"),
    # several numbers: the last
    (3, "1,2,3"),
    (34, "12,34"),
    (2024, "1/2/2024"),
    (2024, "12.05.2024"),
    (8, "not 7 but 8"),
    # of any size
    ("9" * 400, "9" * 400),
    ("9" * 5000, "9" * 5000 + ".0"),
    ("1/" + "3" * 400, "2/" + "6" * 400),
]
DIFFERENT: list[tuple[Any, str]] = [
    (5, "1e5"),
    (5, "\N{MINUS SIGN}5"),
    (5, "答案是-5"),
    (5, ".5"),
    (-3, "5-3"),
    (4, "3/4"),
    (3, "3/4"),
    (-4, r"\frac{3}{-4}"),
    (4, r"\frac{a}{4}"),
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
    # another number
    (0, "1 000 000"),
    (0.5, "1 1/2"),
    (1, "1½"),
    (0.5, "12,345.5 1/2"),
    (0.5, "50%"),
    (5, "5 million"),
    (5, "10^5"),
    (2, "2 hundred thousand"),
    (7, "7 dozen"),
    (3, "3万"),
    (7, "7 and a half"),
    (3, "3 squared"),
    # another unit
    ("3 km", "3 cm"),
    ("50%", "50 apples"),
    ("12 apples", "12 of them"),
    ("7 m", "7 km"),
    ("7 m", "7 miles"),
    ("7 m", r"\boxed{7 \text{ m}^2}"),
    ("7 feet", "7 inches"),
    ("60 mph", "60 km/h"),
    (7, r"\boxed{7m}"),
    (7, r"\boxed{7 x}"),
    # several equations
    (2, r"\boxed{x=1, y=2}"),
    (1, r"\boxed{x=1, y=2}"),
    (8, r"\boxed{a = 7, b = 8}"),
    (2, r"\boxed{x=1 \text{ or } x=2}"),
    (2, r"\boxed{x=1 \text{ and } y=2}"),
    (2, r"\boxed{x=1; y=2}"),
    (2, r"\boxed{x=1,\;y=2}"),
    (2, r"\boxed{x=1\quad y=2}"),
    (2, r"\boxed{x=1 \\ y=2}"),
    (2, "\\boxed{x=1\ny=2}"),
    (2, r"\boxed{x=1 \lor x=2}"),
    (2, r"\boxed{x = 1, y \approx 2}"),
    (2, r"\boxed{x=1{,}000, y=2}"),
    (234, r"\boxed{x=1,y=234}"),
    (7, r"\boxed{3 or x = 7}"),
    (7, r"\boxed{x, y = 7}"),
    (2, "<answer>x = 1, y = 2</answer>"),
    (-7, "so x = 7 or x = -7"),
    (-7, r"So $x = 7$ or $x = -7$."),
    (8, r"so $7 \text{ or } 8$"),
    (2, "The answer is x = 1, y = 2."),
    (2, "x_1 = 1, x_2 = 2"),
    (2, r"$\alpha = 1$, $\beta = 2$"),
    # a part of something else
    (7, "7x"),
    (2, "x2"),
    (2, "x^2"),
    (2, "x²"),
    (2, r"2\pi"),
    (2, r"\boxed{2\pi}"),
    (2, r"\sqrt{2}"),
    (7, r"\boxed{7x}"),
    (10, "2^10"),
    (3, "2**3"),
    (4, "f(4)"),
    (5, "x - 5"),
    (7, "7 + x"),
    (7, r"x \ge 7"),
    (7, "x > 7"),
    (30, "3:30"),
    (4, "(3, 4)"),
    (2, r"\{1, 2\}"),
    (8, "7 or 8"),
    (8, r"\boxed{7 or 8}"),
    (8, "7 to 8"),
    (8, "7 and 8"),
    (8, "The answer is 7 (not 8)."),
    (8, "It is more than 8."),
    (0, "1.000.000"),
    (5, "10 -5"),
    (-5, "10 -5"),
    (5, "--5"),
    (5, "±5"),
]


@pytest.mark.parametrize(("answer", "response"), EQUAL, ids=range(len(EQUAL)))
def test_a_number_is_found_in_any_notation(answer: Any, response: str) -> None:
    assert number(Trace("p", response, answer=answer))


@pytest.mark.parametrize(("answer", "response"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_another_number_is_not_the_answer(answer: Any, response: str) -> None:
    assert not number(Trace("p", response, answer=answer))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blue",
        "1,2,3",
        "nan",
        "inf",
        "1/0",
        "--1",
        "True",
        "7x",
        "7 or 8",
        "it is 7",
        "7!",
        "x",
        "x = 1, y = 2",
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


def test_a_text_with_several_numbers_can_have_none() -> None:
    several = "3 + 4 = 7"
    assert last_number(several) == last_number("7", only=True) is not None
    assert last_number(several, only=True) is None
