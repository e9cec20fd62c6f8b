"""Papers that a docstring cites."""

from __future__ import annotations

from kdlight.cli.papers import find_papers, paragraphs


def test_a_paper_is_cited_where_a_paragraph_begins() -> None:
    class Mine:
        """Something, as in Jones, "Not this one", 1999.

        Smith, Li et al., "A
        title", 2031 (SL), eq. (3). Choose it.
        """

    (source,) = find_papers(Mine.__doc__ or "")
    assert str(source) == 'Smith, Li et al., "A title", 2031'


def test_paragraphs_are_lines() -> None:
    class Mine:
        """One
        line.

        Another.
        """

    assert paragraphs(Mine.__doc__ or "") == ["One line.", "Another."]
