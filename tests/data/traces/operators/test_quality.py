"""Responses that repeat themselves, are too long or unlikely are dropped, and counted."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from kdlight.data.traces import Trace, quality_filter
from tests.data.traces.operators.planted import planted

FINE = Trace("p", " ".join(map(str, range(200))), teacher="t", perplexity=9.0, n_tokens=200)


@pytest.mark.parametrize(
    "text",
    [
        "on and on " * 60,
        "\u6211\u4eec\u518d\u770b\u4e00\u904d" * 60,  # Chinese, without spaces
        "\u3082\u3046\u4e00\u5ea6\u3001" * 60,  # Japanese
        "\u0e2d\u0e35\u0e01" * 60,  # Thai
        "\\frac{1}{2}+" * 60,
        "x=1;" * 60,
        "=" * 200,
    ],
    ids=["spaces", "Chinese", "Japanese", "Thai", "LaTeX", "code", "marks"],
)
def test_a_response_that_repeats_itself_is_dropped(text: str) -> None:
    kept = quality_filter([Trace("p", text), FINE])
    assert kept == [FINE]
    assert kept.dropped == {"repeats itself": 1}
    assert len(quality_filter([Trace("p", text)], repeats=10_000)) == 1


def test_reasoning_that_is_a_field_repeats_itself() -> None:
    reasoned = Trace("p", "It is 2.", response_fields={"reasoning_content": "on and on " * 60})
    assert quality_filter([reasoned]) == []


def test_a_passage_may_occur_as_often_as_repeats() -> None:
    thrice = Trace("p", "a b c. a b d. a b e.")
    assert quality_filter([thrice], ngram=2, repeats=3)
    assert not quality_filter([thrice], ngram=2, repeats=2)


def test_lengths_are_tokens_and_never_characters() -> None:
    counted = [Trace("p", "x" * 900, n_tokens=9), Trace("p", "y", n_tokens=11)]
    kept = quality_filter(counted, max_length=10)
    assert [trace.n_tokens for trace in kept] == [9]
    assert kept.dropped == {"longer than max_length": 1}
    with pytest.raises(ValueError, match="has no n_tokens, which max_length limits; fill it with"):
        quality_filter([*counted, Trace("p", "short")], max_length=10)


def test_a_limit_of_perplexity_is_one_or_one_per_teacher() -> None:
    assert quality_filter([FINE], max_perplexity=8.0) == []
    assert quality_filter([FINE], max_perplexity=9.0) == [FINE]
    assert quality_filter([FINE], max_perplexity={"t": 8.0}).dropped == {
        "perplexity above max_perplexity": 1
    }
    other = Trace("p", "fine", teacher="other")
    assert quality_filter([FINE, other], max_perplexity={"t": 8.0}) == [other]
    too_long = Trace("p", "not scored", teacher="t")
    assert quality_filter([FINE, too_long], max_perplexity=9.0).dropped == {"without perplexity": 1}
    with pytest.raises(ValueError, match="no trace is of the teacher 'T'; there are those of 't'"):
        quality_filter([FINE], max_perplexity={"T": 8.0})
    with pytest.raises(ValueError, match="no trace has a perplexity, which max_perplexity limits"):
        quality_filter([Trace("p", "r")], max_perplexity=8.0)


def test_a_second_application_changes_nothing() -> None:
    once = quality_filter(planted(), max_length=12)
    assert 0 < len(once) < 1000
    assert quality_filter(once, max_length=12) == once


@pytest.mark.parametrize(
    "options",
    [
        {"ngram": 0},
        {"ngram": 1.5},
        {"repeats": -1},
        {"repeats": 0},
        {"max_length": "5"},
        {"max_length": 0},
        {"max_perplexity": nan},
        {"max_perplexity": inf},
        {"max_perplexity": -1.0},
        {"max_perplexity": {"teacher 1": nan}},
        {"max_perplexity": {"teacher 1": 0.0}},
    ],
    ids=range(11),
)
def test_bad_arguments_are_named_without_traces(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be "):
        quality_filter([], **options)
