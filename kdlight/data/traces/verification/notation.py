"""One notation for the many ways in which numbers are written: LaTeX, Unicode and Markdown."""

from __future__ import annotations

import re
import unicodedata

LETTERS = r"A-Za-z_\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u052f"
"""Latin, Greek and Cyrillic letters, in a class of a pattern. Other scripts write no variables."""

VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
RAISED = {"⁻": "-", "⁺": "+", **{unicodedata.lookup(f"SUPERSCRIPT {name}"): str(digit)
          for digit, name in enumerate(("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX",
                                        "SEVEN", "EIGHT", "NINE"))}}  # fmt: skip

CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\uff0d\ufe63\u2010\u2011\u2013", "-"),  # minus signs and hyphens
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),  # spaces between groups of digits
        **dict.fromkeys("€£¥₹", "$"),
        **dict.fromkeys("\u200b\u2060\ufeff`", ""),
        "\u2044": "/",
        "⋅": "·",
        "％": "%",
    }
)

NUMERAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
LATEX = [
    (r"\\([$%&#_])", r"\1"),
    (r"\\(?:left|right|displaystyle|!)", ""),
    (r"\\(?:[,;: ]|quad|qquad)|~", " "),
    (r"\\[()\[\]]", " "),
    (r"\{,\}", ","),
    (r"\^ ?\{? ?\\circ ?\}?|\\degree|\\circ", "°"),
    (r"\\(?:times|cdot)(?![A-Za-z])", "×"),
    (r"\\approx(?![A-Za-z])", "≈"),
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boxed|fbox|operatorname) ?\{([^{}]{0,200})\}",
     r" \1 "),
]  # fmt: skip
LATEX_RULES = [(re.compile(pattern), replacement) for pattern, replacement in LATEX]
FRACTION = re.compile(
    rf"(\d?) ?\\[dtc]?frac\s{{0,2}}"
    rf"(?:\{{ ?([-+]?{NUMERAL}) ?\}}\s{{0,2}}\{{ ?([-+]?{NUMERAL}) ?\}}|([1-9])([1-9]))"
)
SIGNED_AMOUNT = re.compile(r"([-+])\$(?=[\d.])")
BOLD = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)")
VULGAR_FRACTION = re.compile(rf"(\d?) ?([{VULGAR}])")
SUPERSCRIPT = re.compile(f"[{''.join(RAISED)}]+")
TIMES_POWER = re.compile(r"(\d) ?[×·*] ?10 ?\^ ?(?:\{ ?([-+]?\d{1,19}) ?\}|([-+]?\d{1,19}))")
POWER_OF_TEN = re.compile(
    rf"(?<![\d{LETTERS}.,^])10 ?\^ ?(?:\{{ ?([-+]?\d{{1,19}}) ?\}}|([-+]?\d{{1,19}}))"
)
UNIT_POWER = re.compile(
    r"(\d {0,6}(?:km|dm|cm|mm|ft|yd|mi|in)|\d {1,6}m) {0,2}\^ ?(?:\{ ?([23]) ?\}|([23]))(?!\d)"
)


def plain_notation(text: str) -> str:
    r"""Return a text in which numbers are written with ASCII signs only, as far as they can be.

    Fractions become ``3/4``, powers of ten ``1e5``, thin spaces common ones. Marks of currencies,
    of LaTeX around formulas and of Markdown around words are removed. The time is linear in the
    length of the text.

    Example:
        >>> plain_notation(r"\(2\tfrac{1}{2}\) or 3 × 10⁻⁵").strip()
        '2 1/2  or 3e-5'
    """
    text = BOLD.sub("", text.translate(CHARACTERS))
    if "\\" in text or "{,}" in text:
        for pattern, replacement in LATEX_RULES:
            text = pattern.sub(replacement, text)
        text = FRACTION.sub(_latex_fraction, text)
    text = SIGNED_AMOUNT.sub(r"\1", text).replace("$", " ")
    text = VULGAR_FRACTION.sub(_vulgar_fraction, text)
    text = SUPERSCRIPT.sub(lambda found: "^" + "".join(map(RAISED.__getitem__, found[0])), text)
    text = TIMES_POWER.sub(lambda found: f"{found[1]}e{found[2] or found[3]}", text)
    text = POWER_OF_TEN.sub(lambda found: f"1e{found[1] or found[2]}", text)
    # raised again, as the power is not a number of its own
    return UNIT_POWER.sub(lambda found: found[1] + "²³"[int(found[2] or found[3]) - 2], text)


def _latex_fraction(found: re.Match[str]) -> str:
    top, bottom = (found[2], found[3]) if found[2] else (found[4], found[5])
    return _mixed(found, f"{top}/{bottom}")


def _vulgar_fraction(found: re.Match[str]) -> str:
    return _mixed(found, unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/"))


def _mixed(found: re.Match[str], fraction: str) -> str:
    """Return a fraction apart from the digits on both of its sides."""
    whole = f"{found[1]} " if found[1] else found[0][: len(found[0]) - len(found[0].lstrip(" "))]
    following = found.string[found.end() : found.end() + 1]
    return whole + fraction + (" " if following.isdigit() else "")
