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


def find_papers(cls: type) -> tuple[Paper, ...]:
    """Return the papers that the docstring of a class cites where a paragraph begins.

    Example:
        >>> from kdlight.objectives import ToDi
        >>> find_papers(ToDi)[0].year
        2025
    """
    citations = map(CITATION.match, paragraphs(cls))
    return tuple(Paper(m["authors"], m["title"], int(m["year"])) for m in citations if m)


def paragraphs(cls: type) -> list[str]:
    """Return the paragraphs of the docstring of a class, each in one line."""
    return [" ".join(text.split()) for text in cleandoc(cls.__doc__ or "").split("\n\n")]
