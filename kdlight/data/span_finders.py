"""Functions that find the phrases of a text, as spans of characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

from lightning.pytorch.utilities import rank_zero_info

Spans: TypeAlias = "list[tuple[int, int]]"
Finder: TypeAlias = Callable[[str], Spans]

WORD = re.compile(r"\w+(?:['’-]\w+)*")
PHRASE = re.compile(r"\w+(?:['’-]\w+)*(?:[ \t]+\w+(?:['’-]\w+)*)*")
VERBS = ("AUX", "VERB")
GRAMMAR = r"""
  NP: {<DT|PRP\$|CD|JJ.*>*<NN.*>+|<PRP>}
  PP: {<IN|TO><NP>}
  VP: {<MD|RB>*<VB.*>+}
"""


@dataclass(frozen=True)
class NGrams:
    """Spans of ``size`` tokens, whatever the text."""

    size: int

    def __call__(self, text: str) -> Spans:
        """Raise a TypeError: n-grams are spans of tokens, which a text does not determine."""
        raise TypeError("n-grams are spans of tokens and cannot be found in a text")


def find_spans(spans: str | Finder) -> Finder:
    """Return the function that finds spans, by its name.

    ==================  =====================================================================
    ``"punctuation"``   the text between punctuation marks or line ends
    ``"words"``         each word; a span if it has several tokens
    ``"ngrams:N"``      N tokens after N tokens, whatever they are
    ``"spacy"``         noun phrases with their preposition, and verb groups, by spaCy;
                        ``"spacy:NAME"`` for a pipeline other than ``en_core_web_sm``
    ``"nltk"``          the same by NLTK's tagger of English and a small grammar
    ``"auto"``          spaCy or NLTK if installed, else punctuation; the choice is logged
    a callable          from a text to spans ``(start, end)``, in order
    ==================  =====================================================================

    Raises:
        ValueError: If the name is unknown, or its library or data are missing.

    Example:
        >>> find_spans("punctuation")("The cat sat, or so it seems.")
        [(0, 11), (13, 27)]
    """
    if not isinstance(spans, str):
        if not callable(spans):
            raise ValueError(f"spans must be a name or a function of a text, got {spans!r}")
        return spans
    name, _, option = spans.partition(":")
    if spans in ("punctuation", "words"):
        pattern = PHRASE if spans == "punctuation" else WORD
        return lambda text: [match.span() for match in pattern.finditer(text)]
    if name == "ngrams" and option.isdigit() and int(option) > 1:
        return NGrams(int(option))
    if name == "spacy":
        return _spacy(option or "en_core_web_sm")
    if spans == "nltk":
        return _nltk()
    if spans == "auto":
        return _auto()
    raise ValueError(
        "spans must be 'punctuation', 'words', 'ngrams:N' with N above 1, 'spacy', 'nltk', 'auto'"
        f" or a function of a text, got {spans!r}"
    )


def _auto() -> Finder:
    for name, make in (("spacy", lambda: _spacy("en_core_web_sm")), ("nltk", _nltk)):
        if find_spec(name) is not None:
            try:
                finder = make()
            except ValueError:
                continue
            rank_zero_info(f"kdlight: spans are found by {name}")
            return finder
    rank_zero_info("kdlight: spans are the text between punctuation marks")
    return find_spans("punctuation")


def _spacy(pipeline: str) -> Finder:
    try:
        import spacy  # pyright: ignore[reportMissingImports]

        parse = spacy.load(pipeline)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"spans by spaCy need `pip install spacy` and `python -m spacy download {pipeline}`:"
            f" {error}"
        ) from error
    return lambda text: spacy_spans(parse(text))


def spacy_spans(doc: Any) -> Spans:
    """Return the spans of a parsed text: noun phrases with their preposition, and runs of verbs."""
    phrases = []
    for chunk in doc.noun_chunks:
        has_preposition = chunk.start > 0 and doc[chunk.start - 1].pos_ == "ADP"
        phrases.append((chunk.start - has_preposition, chunk.end))
    taken = {i for start, end in phrases for i in range(start, end)}
    verbs = [token.i for token in doc if token.pos_ in VERBS and token.i not in taken]
    phrases += _runs(verbs)
    return sorted((doc[a].idx, doc[b - 1].idx + len(doc[b - 1])) for a, b in phrases)


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] += 1
        else:
            runs.append([index, index + 1])
    return [(a, b) for a, b in runs]


def _nltk() -> Finder:
    try:
        import nltk  # pyright: ignore[reportMissingImports]

        nltk.pos_tag(["ready"])
    except (ImportError, LookupError) as error:
        raise ValueError(
            "spans by NLTK need `pip install nltk` and"
            " `python -m nltk.downloader averaged_perceptron_tagger_eng`"
        ) from error
    parser = nltk.RegexpParser(GRAMMAR)

    def nltk_spans(text: str) -> Spans:
        words = [match.span() for match in re.finditer(r"\w+(?:['’-]\w+)*|[^\w\s]", text)]
        tree = parser.parse(nltk.pos_tag([text[a:b] for a, b in words]))
        spans, first = [], 0
        for part in tree:
            size = len(part.leaves()) if isinstance(part, nltk.Tree) else 1
            if isinstance(part, nltk.Tree):
                spans.append((words[first][0], words[first + size - 1][1]))
            first += size
        return spans

    return nltk_spans
