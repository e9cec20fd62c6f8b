"""A response split into its steps, and into thoughts that are made of steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdlight.data.traces.operators.words import UNSPACED
from kdlight.data.traces.trace_checks import check_text

WITHIN_WORD = re.compile(rf"[^\W{UNSPACED}]{{2}}")
"""Two characters of one word."""

STEP_END = "\n\n"
"""Default of ``split``: a blank line ends a step."""


def split_steps(text: str, split: str = STEP_END) -> list[str]:
    r"""Return the steps of a text, which make up the text when they are joined.

    The separator stands at the end of a step. What is blank between two separators belongs to the
    step before it, so that no step is blank unless the whole text is.

    Example:
        >>> split_steps("1 + 1 = 2.\n\n\n\n2 + 1 = 3.\n\nIt is 3.")
        ['1 + 1 = 2.\n\n\n\n', '2 + 1 = 3.\n\n', 'It is 3.']
    """
    *parts, last = text.split(split)
    steps: list[list[str]] = []
    for piece in [*(part + split for part in parts), last]:
        if steps and (not piece.strip() or not "".join(steps[-1]).strip()):
            steps[-1].append(piece)
        elif piece:
            steps.append([piece])
    return ["".join(pieces) for pieces in steps]


def split_thoughts(text: str, words: Sequence[str], split: str = STEP_END) -> list[str]:
    r"""Return the thoughts of a text, which make up the text when they are joined.

    A thought begins with a step whose first words are a transition, in upper or lower case.

    Example:
        >>> split_thoughts("Add.\n\nIt is 3.\n\nWait, no.\n\nIt is 4.", ["wait"])
        ['Add.\n\nIt is 3.\n\n', 'Wait, no.\n\nIt is 4.']
    """
    thoughts: list[list[str]] = []
    for step in split_steps(text, split):
        if not thoughts or begins_with(step, words):
            thoughts.append([])
        thoughts[-1].append(step)
    return ["".join(steps) for steps in thoughts]


def begins_with(step: str, words: Sequence[str]) -> bool:
    """Return whether a step begins with one of ``words``, as whole words.

    In scripts that put no spaces between words, any characters may follow.

    Example:
        >>> begins_with("Wait, no.", ["wait"]), begins_with("Waiting helps.", ["wait"])
        (True, False)
    """
    step = step.lstrip().casefold()
    for word in map(str.casefold, words):
        around = step[len(word) - 1 : len(word) + 1]
        if step.startswith(word) and not WITHIN_WORD.fullmatch(around):
            return True
    return False


def check_split(split: str) -> None:
    """Raise an error for what cannot end a step.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is empty.

    Example:
        >>> check_split("")
        Traceback (most recent call last):
        ValueError: split must be the text that ends a step, got an empty text
    """
    check_text("split", split)
    if not split:
        raise ValueError("split must be the text that ends a step, got an empty text")
