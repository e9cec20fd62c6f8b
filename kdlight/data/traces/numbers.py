"""Numbers in text, compared exactly."""

from __future__ import annotations

import re
from collections import deque
from decimal import MAX_EMAX, MIN_EMIN, Decimal, DecimalException, localcontext
from typing import NamedTuple

MINUS = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}", "-"))

# A comma separates thousands only before each three digits; a sign after a letter or a digit is a
# hyphen or a minus between two numbers; a point after a digit begins no number.
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
PLAIN = rf"(?:{DIGITS}(?:\.\d+)?|(?<![\d.])\.\d+)(?:[eE][-+]?\d+)?"
SIGN = r"(?:(?<![\w)\]}])[-+])?"
SIGNED = SIGN + PLAIN
NUMBER = re.compile(rf"({SIGNED})(?: ?/ ?({PLAIN}))?")
LATEX = re.compile(rf"({SIGN})\\[dt]?frac\s*\{{({SIGNED})\}}\s*\{{({PLAIN})\}}")


class Fraction(NamedTuple):
    """A number as a quotient, which may have any number of digits."""

    top: Decimal
    bottom: Decimal

    def equals(self, other: Fraction) -> bool:
        """Return whether both are the same number, without rounding."""
        digits = sum(len(each.as_tuple().digits) for each in (*self, *other))
        with localcontext() as context:
            context.prec, context.Emax, context.Emin = digits, MAX_EMAX, MIN_EMIN
            try:
                return self.top * other.bottom == other.top * self.bottom
            except DecimalException:  # an exponent of more than 18 digits
                return False


def read_number(text: str) -> Fraction | None:
    """Return the number that a text is; None if it is none.

    >>> read_number("-1,234.5")
    Fraction(top=Decimal('-1234.5'), bottom=Decimal('1'))
    """
    found = NUMBER.fullmatch(_plain(text).strip())
    return None if found is None else _fraction(found)


def last_number(text: str) -> Fraction | None:
    r"""Return the last number in a text; None if there is none, or it cannot be read.

    Numbers are integers, decimals (``.5``, ``1,234.5``), with exponents (``1e5``) and fractions
    (``3/4``, ``\frac{3}{4}``).

    >>> last_number("One of 1,2,3? It is 3/4.")
    Fraction(top=Decimal('3'), bottom=Decimal('4'))
    """
    found = deque(NUMBER.finditer(_plain(text)), maxlen=1)
    return _fraction(found[0]) if found else None


def _plain(text: str) -> str:
    return LATEX.sub(r" \1\2/\3 ", text.translate(MINUS))


def _fraction(found: re.Match[str]) -> Fraction | None:
    try:
        top, bottom = (Decimal((part or "1").replace(",", "")) for part in found.groups())
    except DecimalException:
        return None
    return Fraction(top, bottom) if bottom else None
