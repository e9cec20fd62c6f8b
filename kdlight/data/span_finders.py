"""Ways to find the phrases of a text, as spans of characters."""

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
    """No look at the text: so many tokens make a span."""

    size: int

    def __call__(self, text: str) -> Spans:
        """Tokens are counted where they are known."""
        raise TypeError("n-grams are runs of tokens, which a text does not show")


def find(spans: str | Finder) -> Finder:
    """A way to find spans by its name.

    ==================  =====================================================================
    ``"punctuation"``   what stands between punctuation marks or line ends
    ``"words"``         each word, which is a span where it takes several tokens
    ``"ngrams:N"``      N tokens after N tokens, whatever they are
    ``"spacy"``         noun phrases with their preposition, and verb groups, by spaCy;
                        ``"spacy:NAME"`` for a pipeline other than ``en_core_web_sm``
    ``"nltk"``          the same from NLTK's tagger of English and a small grammar
    ``"auto"``          spaCy or NLTK where they are ready, else punctuation; the log says which
    a callable          from a text to spans ``(start, end)``, in order
    ==================  =====================================================================

    Raises:
        ValueError: no such way, or one whose library or data is missing.

    Example:
        >>> find("punctuation")("The cat sat, or so it seems.")
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
    rank_zero_info("kdlight: spans are what stands between punctuation marks")
    return find("punctuation")


def _spacy(pipeline: str) -> Finder:
    try:
        import spacy  # pyright: ignore[reportMissingImports]

        read = spacy.load(pipeline)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"spans by spaCy need `pip install spacy` and `python -m spacy download {pipeline}`:"
            f" {error}"
        ) from error
    return lambda text: spacy_spans(read(text))


def spacy_spans(doc: Any) -> Spans:
    """Noun phrases with the preposition before them, and runs of verbs, of a parsed text."""
    found = []
    for chunk in doc.noun_chunks:
        begins_late = chunk.start > 0 and doc[chunk.start - 1].pos_ == "ADP"
        found.append((chunk.start - begins_late, chunk.end))
    taken = {i for start, end in found for i in range(start, end)}
    verbs = [token.i for token in doc if token.pos_ in VERBS and token.i not in taken]
    found += _runs(verbs)
    return sorted((doc[a].idx, doc[b - 1].idx + len(doc[b - 1])) for a, b in found)


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

    def spans(text: str) -> Spans:
        words = [match.span() for match in re.finditer(r"\w+(?:['’-]\w+)*|[^\w\s]", text)]
        tree = parser.parse(nltk.pos_tag([text[a:b] for a, b in words]))
        found, at = [], 0
        for part in tree:
            size = len(part.leaves()) if isinstance(part, nltk.Tree) else 1
            if isinstance(part, nltk.Tree):
                found.append((words[at][0], words[at + size - 1][1]))
            at += size
        return found

    return spans
