"""What stands around a number in a text: its unit, or a formula of which it is only a part."""

from __future__ import annotations

import re

from kdlight.data.traces.verification.notation import LETTERS

MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
MULTIPLIER = re.compile(rf"[ -]?({'|'.join(MULTIPLIERS)})s?(?![{LETTERS}\d])", re.IGNORECASE)

ATTACHED = frozenset(
    ("km", "cm", "mm", "nm", "kg", "mg", "ml", "cl", "dl", "mph", "kmh", "hr", "hrs", "min", "sec")
    + ("ms", "ft", "in", "yd", "mi", "lb", "lbs", "oz", "gb", "mb", "kb", "hz", "kw", "kwh", "mw")
    + ("kph", "kmph", "st", "nd", "rd", "th", "usd", "eur")
)
"""Units that may stand behind a number without a space; a single letter there is a variable."""

CHANGES_NUMBER = frozenset(
    ("dozen", "dozens", "gross", "score", "lakh", "lakhs", "crore", "crores", "squared", "cubed")
    + ("factorial", "half", "halves", "third", "thirds", "quarter", "quarters", "tenths")
    + ("hundredths", "thousandths", "pi")
) | {name + end for name in MULTIPLIERS for end in ("", "s")}
"""Words that make another number of the number before them."""

NO_UNITS = CHANGES_NUMBER | frozenset(
    ("a", "an", "and", "or", "to", "of", "not", "plus", "minus", "times", "over", "by", "divided")
    + ("sqrt", "root", "power", "mod", "choose", "if", "then", "else", "is", "are", "maybe")
    + ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
)
"""Words that are no units of a number, so that a text with them is not just a number."""

SPELLINGS = {"percent": "%", "degree": "°", "kilometer": "km", "kilometre": "km", "meter": "m",
             "metre": "m", "centimeter": "cm", "centimetre": "cm", "kilogram": "kg", "gram": "g",
             "millimeter": "mm", "millimetre": "mm", "nanometer": "nm", "nanometre": "nm",
             "milligram": "mg", "millisecond": "ms", "milliliter": "ml", "millilitre": "ml",
             "centiliter": "cl", "centilitre": "cl", "deciliter": "dl", "decilitre": "dl",
             "liter": "l", "litre": "l", "hour": "h", "hr": "h", "hrs": "h", "minute": "min",
             "second": "s", "sec": "s", "foot": "ft", "feet": "ft", "inch": "in", "inches": "in",
             "yard": "yd", "yds": "yd", "mile": "mi", "pound": "lb", "lbs": "lb", "ounce": "oz",
             "newton": "n", "volt": "v", "joule": "j", "watt": "w", "kilowatt": "kw",
             "kelvin": "k", "ohm": "ω", "hertz": "hz", "kilobyte": "kb", "megabyte": "mb",
             "gigabyte": "gb", "usd": "dollar", "eur": "euro", "mph": "mi/h", "kph": "km/h",
             "kmh": "km/h", "kmph": "km/h"}  # fmt: skip
"""One spelling of a unit, in small letters."""

SINGLE = "mgshlLNVJWKΩ"
"""Units of one letter, behind a space. Other letters are variables there."""

WORD = rf"[{LETTERS}]{{2,30}}[²³]?(?:/[{LETTERS}]{{1,30}}[²³]?)?"
SHORT = rf"[{SINGLE}](?![{LETTERS}])[²³]?(?:/[{LETTERS}]{{1,9}}[²³]?)?"
WORDS = re.compile(rf" {{1,6}}(?:{WORD}|{SHORT})(?: {{1,3}}{WORD}){{0,3}}")
PER = re.compile(  # a rate of known units; "7 apples per child" are apples
    r"\A( {0,6}(?:miles?|kilomet(?:er|re)s?|met(?:er|re)s?|f(?:ee|oo)t|km|mi|ft|m)) per"
    r" (hour|second|minute)(?![A-Za-z])"
)
SIGN = re.compile(r" ?(%|°(?: ?[CF])?)")
ONE_WORD = re.compile(rf" {{0,6}}({WORD}|{SHORT}|[{LETTERS}]+)")

FUNCTION = r"\\(?:sqrt|sin|cos|tan|log|ln|exp|pi|theta|binom|pm|mp|[dtc]?frac|pmod|bmod)"
VARIABLE = rf"(?<![{LETTERS}])(?:[{LETTERS}](?:_?\{{?\w\}}?)?|\\[a-z]{{2,7}})"
LETTER = rf"[{LETTERS}]"
BEFORE = re.compile(
    rf"(?:{LETTER}|[\^√±∓{{]|{LETTER}\(|{FUNCTION} ?[\[{{(]? ?"  # x2, x^2, f(2
    rf"|[{LETTERS}\)}}\]]-|[{LETTERS})}}] ?/ ?|\d ?[:*×·÷] ?"  # x-2, km/2, 1:2, 3*2
    rf"|(?:(?<!{LETTER}){LETTER}|[)}}]) ?[-+*×·÷] ?|\*\*"  # x + 2, 3**2
    r"|(?<=\S) [<>]=? ?|[≤≥≠] ?|!= ?|\\(?:leq?|geq?|neq?) ?"  # x > 2
    rf"|[\d%]\)?(?: {{0,3}},)? {{1,6}}(?:or|to|and|\\lor|\\vee|∨) {{1,6}}"
    rf"(?:{VARIABLE} ?[=≈] ?)?"  # 1 or x = 2
    r"|\.\d{3}\."  # 1.000.002
    r"|(?:\bnot|n't|\bthan|\bexcept) )\Z"  # not 2
)
EQUATIONS = re.compile(
    rf"(\w{{0,12}}) ?(?:{VARIABLE} ?[=≈] ?[-+]?\d[\d.,/]{{0,20}}(?<![,.]) {{0,3}}[,;] {{0,6}})+"
    rf"{VARIABLE} ?[=≈] ?\Z"  # x = 1, y = 2
)
CONDITIONS = frozenset(
    ("when", "for", "if", "with", "at", "since", "given", "let", "as", "because", "where", "set")
    + ("setting", "substituting", "using", "from", "once", "taking")
)
"""Words before equations that are no answers: "when x = 1, y = 2" states only y."""
BEFORE_SIGN = re.compile(r"(?:[-+±]|[\d)\]}] {1,3})\Z")  # --2, 3 -2, 0.3 1/2
AFTER = re.compile(
    rf" ?(?:[\^√π∞]|{FUNCTION}|[万亿千百兆萬億]|\\?\}}"  # 2^, 2 \pi
    rf"|[*×·÷] ?[{LETTERS}(\\√]|[-+/] ?(?:[b-zB-HJ-Z](?!{LETTER})|\\[a-zA-Z]|\(|√)"  # 2 + x
    r"|(?:and|&) (?:a |one )?(?:half|third|quarter))|\("
)
LIST_BEFORE = re.compile(r"[(\[][^()\[\]\n]{0,60}[,;] ?\Z")
LIST_AFTER = re.compile(r" ?[)\]]")

REACH = 80
"""How many characters on each side of a number are looked at."""


def is_part_of_more(text: str, start: int, end: int) -> bool:
    """Return whether the number at ``text[start:end]`` is a part of a formula, a list or a range.

    Example:
        >>> is_part_of_more("x^2", 2, 3), is_part_of_more("it is 2.", 6, 7)
        (True, False)
    """
    before, after = text[max(0, start - REACH) : start], text[end : end + REACH]
    if BEFORE.search(before) or AFTER.match(after):
        return True
    equations = EQUATIONS.search(before)
    if equations is not None and equations[1].lower() not in CONDITIONS:
        return True
    if (text[start] in "+-" or "/" in text[start:end]) and BEFORE_SIGN.search(before):
        return True
    return bool(LIST_BEFORE.search(before) and LIST_AFTER.match(after))


def read_unit(after: str) -> tuple[int, str] | None:
    """Return the power of ten and the unit that a text behind a number is; None if it is neither.

    Example:
        >>> read_unit(" million apples"), read_unit("%"), read_unit(" or 3")
        ((6, 'apple'), (0, '%'), None)
    """
    exponent, after = _multiplier(after)
    after = PER.sub(r"\1/\2", after.rstrip(), count=1)
    if not after:
        return exponent, ""
    if (sign := SIGN.fullmatch(after)) is not None:
        return exponent, sign[1].replace(" ", "")
    if not after[0].isspace():
        return (exponent, _unit(after)) if after.lower() in ATTACHED else None
    if WORDS.fullmatch(after) is None or NO_UNITS & set(after.lower().split()):
        return None
    return exponent, _unit(after.split()[0])


def unit_after(after: str) -> tuple[int, str] | None:
    """Return the power of ten and the unit with which a text begins; None if it changes the number.

    Example:
        >>> unit_after(" km, or so"), unit_after("x + 1"), unit_after(" dozen")
        ((0, 'km'), None, None)
    """
    exponent, after = _multiplier(after)
    after = PER.sub(r"\1/\2", after, count=1)
    if (sign := SIGN.match(after)) is not None:
        return exponent, sign[1].replace(" ", "")
    word = ONE_WORD.match(after)
    if word is None:
        return exponent, ""
    attached = not after[0].isspace()
    if word[1].lower() in CHANGES_NUMBER or (attached and word[1].lower() not in ATTACHED):
        return None
    return exponent, _unit(word[1])


def _multiplier(after: str) -> tuple[int, str]:
    found = MULTIPLIER.match(after)
    return (0, after) if found is None else (MULTIPLIERS[found[1].lower()], after[found.end() :])


def _unit(word: str) -> str:
    """Return a unit in one spelling."""
    word = word.lower()
    return "/".join(map(_spelled, word.split("/")))


def _spelled(word: str) -> str:
    single = word[:-1] if len(word) > 3 and word.endswith("s") else word
    return SPELLINGS.get(word) or SPELLINGS.get(single, single)
