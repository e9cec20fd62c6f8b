"""Convert formulas to MathML, which needs neither a script nor a network."""

from __future__ import annotations

import re
from textwrap import dedent

from latex2mathml.converter import convert

BLOCK = re.compile(r"^(?P<indent> *)\.\. math::(?P<formula>.*\n?(?:(?P=indent) +.*\n?|\n)*)", re.M)
INLINE = re.compile(r":math:`([^`]+)`")
UNKNOWN = {r"\arg": r"\operatorname{arg}"}  # commands that the converter does not know
NAMED = r"(<mi>(?:cos|exp|log|tanh)</mi>)(?!<mo stretchy=)"  # a function, and no bracket after it


def with_mathml(docstring: str) -> str:
    """Convert the ``.. math::`` blocks and inline formulas of a docstring to MathML.

    Raises:
        ValueError: A formula has a command that the converter does not know.
    """
    docstring = BLOCK.sub(_block, docstring)
    return INLINE.sub(lambda found: _mathml(found[1], "inline"), docstring)


def without_formulas(docstring: str) -> str:
    """Remove formula blocks, and leave inline formulas as they are written, for the search."""
    return INLINE.sub(r"\1", BLOCK.sub("", docstring))


def _block(found: re.Match[str]) -> str:
    first, _, rest = found["formula"].partition("\n")
    formula = f"{first.strip()}\n{dedent(rest)}".strip()
    if "\\\\" in formula and "\\begin" not in formula:
        formula = rf"\begin{{split}}{formula}\end{{split}}"  # as Sphinx does
    # one line in a tag of its own: Markdown leaves such a block alone
    return f'{found["indent"]}<div class="formula">{_mathml(formula, "block")}</div>\n\n'


def _mathml(formula: str, display: str) -> str:
    for command, known in UNKNOWN.items():
        formula = formula.replace(command, known)
    made = convert(" ".join(formula.split()), display=display)
    made = re.sub(NAMED, r'\1<mspace width="0.17em" />', made)
    if "\\" in made:
        raise ValueError(f"the formula has a command that the converter does not know: {formula}")
    return made
