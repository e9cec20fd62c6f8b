"""Functions that find spans by name, and the errors of unknown names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdlight.data.span_finders import NGrams, find_spans, spacy_spans


@pytest.mark.parametrize("name", ["ngrams:1", "ngrams", "words:2", "grammar", ""])
def test_unknown_ways_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="spans must be 'punctuation', 'words'"):
        find_spans(name)
    with pytest.raises(ValueError, match="name or a function"):
        find_spans(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["spacy:no_such_pipeline", "nltk"])
def test_what_is_not_installed_says_what_to_install(name: str) -> None:
    with pytest.raises(ValueError, match=f"pip install {name.split(':')[0]}"):
        find_spans(name)
    assert find_spans("auto")("Some text, in parts") == [(0, 9), (11, 19)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("punctuation", ["Don't stop", "well-made things"]),
        ("words", ["Don't", "stop", "well-made", "things"]),
    ],
)
def test_spans_keep_apostrophes_and_hyphens(name: str, words: list[str]) -> None:
    text = "Don't stop, well-made things!"
    assert [text[a:b] for a, b in find_spans(name)(text)] == words


def test_ngrams_are_not_found_in_a_text() -> None:
    finder = find_spans("ngrams:3")
    assert finder == NGrams(3)
    with pytest.raises(TypeError, match="n-grams are spans of tokens"):
        finder("some text")


def test_a_phrase_takes_its_preposition_and_verbs_form_runs() -> None:
    tags = [
        ("He", "PRON"),
        ("has", "AUX"),
        ("run", "VERB"),
        ("in", "ADP"),
        ("red", "ADJ"),
        ("shoes", "NOUN"),
    ]

    class Token:
        def __init__(self, i: int) -> None:
            self.i, self.pos_ = i, tags[i][1]
            self.idx = sum(len(word) + 1 for word, _ in tags[:i])

        def __len__(self) -> int:
            return len(tags[self.i][0])

    class Doc(list):
        noun_chunks = (SimpleNamespace(start=4, end=6),)

    text = " ".join(word for word, _ in tags)
    spans = spacy_spans(Doc(Token(i) for i in range(len(tags))))
    assert [text[a:b] for a, b in spans] == ["has run", "in red shoes"]
