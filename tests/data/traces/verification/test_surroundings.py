"""Units behind a number, and formulas around it."""

from __future__ import annotations

import pytest

from kdlight.data.traces.verification.surroundings import is_part_of_more, read_unit, unit_after

ALONE = [
    "it is 7.",
    "x = 7",
    "7 apples",
    "10-7",
    "(7)",
    "[7]",
    "=> 7",
    "<b>7</b>",
    "a, 7!",
    "7 / hour",
    "when x = 3, y = 7",
    "total = 3, sum = 7",
]
PART = [
    *("7x", "x7", "x^7", "7^x", "7 π", r"7 \pi", r"\sqrt{7}", r"\sqrt 7", "√7", "sqrt(7)", "f(7)"),
    *("x - 7", "x-7", "x + 7", "7 + x", "7 - x", "7*x", "7(x + 1)", "x/7", "km/7", "7/x"),
    *("3*7", "3 × 7", "3:7", "x > 7", "x ≥ 7", r"x \le 7", "x != 7", "3 or 7", "(3, 7)", "[3, 7)"),
    *(r"\{3, 7\}", "±7", "7 and a half", "3**7", "7万"),
    *("x = 3 or x = 7", "3  or  7", r"3 \lor 7", "x = 3, y = 7", "x = 3; x_2 = 7"),
    *("a = 1, b = 2, c = 7", "3 and y = 7"),
]  # fmt: skip


@pytest.mark.parametrize("text", ALONE)
def test_a_number_alone(text: str) -> None:
    assert not is_part_of_more(text, text.index("7"), text.index("7") + 1)


@pytest.mark.parametrize("text", PART)
def test_a_part_of_more(text: str) -> None:
    number = text.index("7")
    assert is_part_of_more(text, number, number + 1) or unit_after(text[number + 1 :]) is None


@pytest.mark.parametrize(
    ("after", "read", "found"),
    [
        ("", (0, ""), (0, "")),
        (" apples", (0, "apple"), (0, "apple")),
        (" apples in all, of 12", None, (0, "apple")),
        (" percent", (0, "%"), (0, "%")),
        ("%", (0, "%"), (0, "%")),
        ("°C", (0, "°C"), (0, "°C")),
        ("km", (0, "km"), (0, "km")),
        (" km/h", (0, "km/h"), (0, "km/h")),
        (" m/s", (0, "m/s"), (0, "m/s")),
        (" m", (0, "m"), (0, "m")),
        ("      m ", (0, "m"), (0, "m")),
        (" N", (0, "n"), (0, "n")),
        ("m", None, None),
        (" n", None, (0, "n")),
        (" feet", (0, "ft"), (0, "ft")),
        (" inches", (0, "in"), (0, "in")),
        (" kilometers/hour", (0, "km/h"), (0, "km/h")),
        (" miles per hour", (0, "mi/h"), (0, "mi/h")),
        (" apples per hour", (0, "apple"), (0, "apple")),
        (" million", (6, ""), (6, "")),
        ("-thousand dollars", (3, "dollar"), (3, "dollar")),
        ("x", None, None),
        (" x", None, (0, "x")),
        ("apples", None, None),
        (" dozen", None, None),
        (" hundred thousand", None, None),
        (" hundredths", None, None),
        (" squared", None, None),
        (" or more", None, (0, "or")),
    ],
)
def test_units(after: str, read: tuple[int, str] | None, found: tuple[int, str] | None) -> None:
    assert (read_unit(after), unit_after(after)) == (read, found)
