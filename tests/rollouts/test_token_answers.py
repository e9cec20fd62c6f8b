"""No token of an answer that is damaged is used."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.rollouts.token_answers import parse_continuation, parse_scores


def text(ids: Any, **options: Any) -> dict[str, Any]:
    return {"choices": [{"token_ids": ids, "finish_reason": "stop", **options}]}


@pytest.mark.parametrize(
    ("ids", "most", "end"), [([5, 6], 2, [0]), ([5, 0], 4, [0, 7]), ([7], 1, [7]), ([0, 0], 2, [])]
)
def test_a_whole_text_is_read(ids: list[int], most: int, end: list[int]) -> None:
    spans = [{"version": "a", "start": 0, "end": 1}, {"version": "b", "start": 1, "end": 2}]
    found = parse_continuation(text(ids, weight_versions=spans), most, end, 9)
    assert found.ids == ids
    assert found.versions == {"a", "b"}
    assert parse_continuation(text(ids), most, end, None).versions == frozenset()


@pytest.mark.parametrize(
    "answer",
    [
        text([5]),  # cut
        text([5, 6, 7]),  # too long
        text([0, 5]),  # goes on after its end
        text([5, 9]),
        text([5, -1]),
        text([5, 6.0]),
        text([5, True]),
        text([]),
        text(None),
        text("56"),
        {"choices": []},
        {"choices": [1]},
        {"choices": None},
        {"choices": [{}, {}]},
        {},
        [],
        None,
    ],
    ids=str,
)
def test_a_damaged_text_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_continuation(answer, 2, [0], 9)


def scores(rows: Any) -> dict[str, Any]:
    return {"choices": [{}], "prompt_logprobs": rows}


def test_scores_are_those_of_the_tokens() -> None:
    rows = [None, {"3": {"logprob": -1.0}, "4": {"logprob": -0.5}}, {"5": {"logprob": 0.0}}]
    assert parse_scores(scores(rows), [1, 4, 5]) == [-0.5, 0.0]


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [None],
        [None, {"3": {"logprob": -1.0}}],
        [None, {"2": {}}],
        [None, None],
        [None, {"2": {"logprob": None}}],
        [None, {"2": {"logprob": float("nan")}}],
        [None, {"2": {"logprob": 0.5}}],
        [None, {"2": {"logprob": float("-inf")}}],
    ],
    ids=str,
)
def test_damaged_scores_are_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_scores(scores(rows), [1, 2])
