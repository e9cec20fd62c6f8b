"""LaTeX, Unicode and Markdown become one notation."""

from __future__ import annotations

import pytest

from kdlight.data.traces.verification.notation import plain_notation

ROWS = [
    (r"-\frac12", "-1/2"),
    (r"\frac{-3}{4}", "-3/4"),
    (r"\dfrac { 3 } { 4 }", "3/4"),
    (r"2\tfrac{1}{2}", "2 1/2"),
    (r"\frac{1}{2}5", "1/2 5"),
    (r"x\frac{1}{2}", "x1/2"),
    ("½", "1/2"),
    ("10½", "10 1/2"),
    ("½5", "1/2 5"),
    ("3⁄4", "3/4"),
    ("\N{MINUS SIGN}5", "-5"),
    ("x²", "x^2"),
    ("3 × 10⁻⁵", "3e-5"),
    (r"3 \cdot 10^{5}", "3e5"),
    ("10^5", "1e5"),
    ("x10^5", "x10^5"),
    (r"1\,000{,}5", "1 000,5"),
    ("1\N{THIN SPACE}000", "1 000"),
    (r"90^\circ", "90°"),
    (r"90^{\circ}", "90°"),
    (r"5 \text{ cm}^2", "5   cm²"),
    ("5 m^2", "5 m²"),
    ("5m^2", "5m^2"),
    ("-$5", "-5"),
    ("**7**", "7"),
    ("2**3", "2**3"),
    (r"50\%", "50%"),
    ("", ""),
]


@pytest.mark.parametrize(("written", "plain"), ROWS, ids=range(len(ROWS)))
def test_one_notation(written: str, plain: str) -> None:
    assert plain_notation(written).strip() == plain


@pytest.mark.parametrize(("written", "plain"), ROWS, ids=range(len(ROWS)))
def test_the_notation_of_a_plain_text_stays(written: str, plain: str) -> None:
    once = plain_notation(written)
    assert plain_notation(once) == once
