"""The papers that a docstring cites where a paragraph begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import cleandoc

AUTHOR = r"[A-Z][\w'-]+(?: et al\.)?"
CITATION = re.compile(
    rf'(?P<authors>{AUTHOR}(?:, {AUTHOR})*), "(?P<title>[^"]+)", (?P<year>\d{{4}})\b'
)
"""The beginning of a paragraph that cites a paper."""


@dataclass(frozen=True)
class Paper:
    """A paper, as a docstring cites it."""

    authors: str
    title: str
    year: int

    def __str__(self) -> str:
        return f'{self.authors}, "{self.title}", {self.year}'


def find_papers(doc: str) -> tuple[Paper, ...]:
    r"""Return the papers that a docstring cites where a paragraph begins.

    Example:
        >>> find_papers('A loss.\n\nSmith, Li, "A title", 2031, eq. (3).')[0].year
        2031
    """
    citations = map(CITATION.match, paragraphs(doc))
    return tuple(Paper(m["authors"], m["title"], int(m["year"])) for m in citations if m)


def paragraphs(doc: str) -> list[str]:
    """Return the paragraphs of a docstring, each in one line."""
    return [" ".join(text.split()) for text in cleandoc(doc).split("\n\n")]
