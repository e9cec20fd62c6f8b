"""Numbers in text, compared exactly."""

from __future__ import annotations

import re
from collections import deque
from decimal import MAX_EMAX, MIN_EMIN, Decimal, DecimalException, localcontext
from typing import NamedTuple

from kdlight.data.traces.verification.notation import LETTERS, VULGAR, plain_notation
from kdlight.data.traces.verification.surroundings import (
    REACH,
    is_part_of_more,
    read_unit,
    unit_after,
)

# A comma or a space separates thousands only before each three digits; a sign after a letter or a
# digit is a hyphen or a minus between two numbers; a point after a digit begins no number.
GROUPED = r"\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?: \d{3})+(?!\d)"
PLAIN = rf"(?:(?:{GROUPED}|\d+)(?:\.\d+)?|(?<![\d.])\.\d+)(?:[eE][-+]?\d+)?"
SIGN = rf"(?:(?<![\d{LETTERS})\]}}])[-+])?"
MIXED = r"(\d{1,3}(?:,\d{3}){1,4}|\d{1,15}) {1,2}(\d{1,15}) ?/ ?(\d{1,15})(?![\d/])"
NUMBER = re.compile(rf"({SIGN})(?:{MIXED}|({PLAIN})(?: ?/ ?([-+]?{PLAIN}))?)")
DIGIT = re.compile(rf"[\d{VULGAR}]")

LONGEST = 20_000
"""Characters of the longest number that is read."""

EQUALS = re.compile(r"(?<![<>!=])=|≈")
APART = re.compile(r"\\q?quad(?![A-Za-z])|\\\\(?![A-Za-z]{2})")  # a wide space, or a new line
SEPARATOR = re.compile(  # between equations or numbers; a comma may also separate thousands
    rf"[()\[\]{{}};；、，\n\x1f&]|,(?!\d{{3}}(?!\d))|\\(?:\\|lor|vee|land|wedge)|[∨∧]"
    rf"|(?<![{LETTERS}])(?:or|and)(?![{LETTERS}])"
)


class Fraction(NamedTuple):
    """A number as a quotient, which may have thousands of digits.

    Attributes:
        top: above the line.
        bottom: below it.
        unit: the word or the sign after the number, such as ``"km"`` or ``"%"``; empty if there is
            none. It is not a part of the number: 50% is 50.
    """

    top: Decimal
    bottom: Decimal
    unit: str = ""

    def equals(self, other: Fraction) -> bool:
        """Return whether both are the same number, without rounding and without their units."""
        values = (self.top, self.bottom, other.top, other.bottom)
        digits = sum(len(each.as_tuple().digits) for each in values)
        with localcontext() as context:
            context.prec, context.Emax, context.Emin = digits, MAX_EMAX, MIN_EMIN
            try:
                return self.top * other.bottom == other.top * self.bottom
            except DecimalException:  # an exponent of more than 18 digits
                return False

    def is_answer(self, expected: Fraction) -> bool:
        """Return whether this is ``expected``, with the same unit if both have one."""
        units = {self.unit, expected.unit} - {""}
        return len(units) < 2 and self.equals(expected)


def read_number(text: str) -> Fraction | None:
    r"""Return the number that a text is; None if it is none.

    It may follow an equals sign, and words for a unit may follow it. A text with anything else,
    such as a variable, a root, a second number or a second equation, is no number.

    Example:
        >>> read_number("x = -1,234.5 km")
        Fraction(top=Decimal('-1234.5'), bottom=Decimal('1'), unit='km')
        >>> read_number(r"2\sqrt{3}") is read_number("x = 1, y = 2") is None
        True
    """
    if len(text) > LONGEST:
        return None
    # a wide space between two equations, which plain notation has no sign for
    *parts, text = EQUALS.split(plain_notation(APART.sub(" \x1f ", text)))
    if any(_is_several(part, first=not i) for i, part in enumerate(parts)):
        return None
    text = text.replace("\x1f", " ").strip(" \t\n\r\"'").rstrip(".").strip()
    found = NUMBER.match(text)
    if found is None or len(text) - found.end() > 2 * REACH:
        return None
    after = read_unit(text[found.end() :])
    return None if after is None else _fraction(found, *after)


def last_number(text: str, *, only: bool = False) -> Fraction | None:
    r"""Return the last number in a text; None if there is none, or it is not clear.

    Numbers are integers, decimals (``.5``, ``1,234.5``), with exponents (``1e5``) and fractions
    (``3/4``, ``\frac{3}{4}``). A number that is a part of something else, such as ``7`` in ``7x``,
    is not clear.

    Args:
        text: the text.
        only: whether a text with several numbers has none.

    Example:
        >>> last_number("One of 1,2,3? It is 3/4.")
        Fraction(top=Decimal('3'), bottom=Decimal('4'), unit='')
        >>> last_number("so it is 7x") is None
        True
    """
    if only and len(text) > LONGEST:
        return None
    end = _end_of_digits(text)
    start = max(0, end - LONGEST)
    text = plain_notation(text[start : end + 4 * REACH])
    numbers = deque(NUMBER.finditer(text), maxlen=2)
    if not numbers or (only and len(numbers) > 1):
        return None
    last = numbers[-1]
    if start and last.start() < REACH:  # it may begin before
        return None
    if is_part_of_more(text, last.start(), last.end()):
        return None
    after = unit_after(text[last.end() : last.end() + REACH])
    return None if after is None else _fraction(last, *after)


def _is_several(part: str, *, first: bool) -> bool:
    """Return whether what stands before an equals sign states another number or equation.

    Commas and words within brackets do not count, and neither do those that follow a word in the
    first part: "Thus, x = 7", "boys and girls = 7".
    """
    depth, part = 0, part.strip(" \t\r\n\x1f&\\")
    for token in SEPARATOR.finditer(part):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth = max(0, depth - 1)
        elif depth == 0:
            before = part[max(0, token.start() - 9) : token.start()].rstrip()[-2:]
            if not (first and len(before) == 2 and before.isalpha()):
                return True
    return False


def _end_of_digits(text: str) -> int:
    """Return where the last digit of a text ends, which is searched for from its end."""
    for start in range(max(0, len(text) - LONGEST), -LONGEST, -LONGEST):
        digits = deque(DIGIT.finditer(text, max(0, start), start + LONGEST), maxlen=1)
        if digits:
            return digits[0].end()
    return 0


def _fraction(found: re.Match[str], exponent: int, unit: str) -> Fraction | None:
    sign, whole, part, of, top, bottom = found.groups()
    if whole is not None:  # a mixed number, such as 1 1/2
        number, over, under = (int(each.replace(",", "")) for each in (whole, part, of))
        if exponent or not over < under:
            return None
        return Fraction(Decimal(f"{sign}{number * under + over}"), Decimal(under), unit)
    if exponent and (bottom or "e" in top.lower()):  # such as 1/2 million
        return None
    try:
        above = _decimal(f"{sign}{top}e{exponent}" if exponent else sign + top)
        below = _decimal(bottom or "1")
    except DecimalException:
        return None
    return Fraction(above, below, unit) if below else None


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace(" ", ""))
