"""A text is divided into words, in scripts with and without spaces."""

from __future__ import annotations

import pytest

from kdlight.data.traces.operators.words import WORD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("so  it's 2.", ["so", "it", "'", "s", "2", "."]),
        ("\u6211\u4eec2", ["\u6211", "\u4eec", "2"]),
        ("na\u00efve_x=1", ["na\u00efve_x", "=", "1"]),
        ("\u0e2d\u0e35\u0e01", ["\u0e2d", "\u0e35", "\u0e01"]),
        (" \n\t", []),
    ],
    ids=["marks", "Chinese", "accents", "Thai", "spaces"],
)
def test_words_and_marks_are_found(text: str, words: list[str]) -> None:
    assert WORD.findall(text) == words
