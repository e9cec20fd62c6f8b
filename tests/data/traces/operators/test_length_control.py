"""Prompts get a marker of the length of their response, and only correct ones do."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    length_control,
    length_pairs,
    serialise_steps,
    shortest_correct,
)


def traces(*sizes: int, prompt: Any = "p", score: float = 1.0) -> list[Trace]:
    return [Trace(prompt, f"{i}" + "x" * (n - 1), score=score) for i, n in enumerate(sizes)]


def marks(kept: list[Trace]) -> list[tuple[Any, int]]:
    return [(trace.prompt, len(trace.response)) for trace in kept]


def test_each_prompt_has_its_longest_and_its_shortest_correct_trace() -> None:
    wrong = Trace("p", "", score=0.0)
    kept = length_control([*traces(3, 9, 5, 7), wrong])
    assert marks(kept) == [("[long] p", 9), ("[short] p", 3)]
    assert len({trace.prompt_id for trace in kept}) == 1  # of one prompt still
    assert kept.dropped == {"incorrect": 1, "neither long nor short": 2}


def test_lengths_that_are_the_same_have_no_marker() -> None:
    assert length_control(traces(4, 4)) == []
    assert length_control(traces(4, 4)).dropped == {"of a prompt with one length": 2}
    assert length_control(traces(4)) == []
    assert marks(length_control(traces(4, 4, 6))) == [("[long] p", 6), ("[short] p", 4)]


def test_all_that_are_longer_or_shorter_than_the_median_can_be_kept() -> None:
    kept = length_control(traces(3, 9, 5, 7, 6), pairs_only=False)
    assert sorted(marks(kept)) == [
        ("[long] p", 7),
        ("[long] p", 9),
        ("[short] p", 3),
        ("[short] p", 5),
    ]
    assert kept.dropped == {"neither long nor short": 1}


def test_tokens_are_not_compared_with_characters() -> None:
    mixed = [
        Trace("p", "a long one in characters", score=1.0),
        Trace("p", "short", score=1.0, n_tokens=40),
    ]
    assert [trace.response for trace in length_control(mixed)] == [
        "a long one in characters",
        "short",
    ]
    counted = [Trace("p", "aaaaaaaa", score=1, n_tokens=1), Trace("p", "b", score=1, n_tokens=5)]
    assert [trace.response for trace in length_control(counted)] == ["b", "aaaaaaaa"]


def test_the_marker_stands_in_the_last_message_of_the_user() -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    kept = length_control(traces(1, 9, prompt=chat), long="LONG", short="SHORT")
    assert [trace.prompt for trace in kept] == [
        [chat[0], {"role": "user", "content": f"{marker} q"}] for marker in ("LONG", "SHORT")
    ]
    parts = [{"role": "user", "content": [{"type": "text", "text": "q"}]}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    for prompt in (parts, [*parts, call, {"role": "tool", "content": "3"}]):
        for trace, marker in zip(
            length_control(traces(1, 9, prompt=prompt)), ("[long]", "[short]"), strict=True
        ):
            first, *others = trace.prompt
            assert first["content"] == [{"type": "text", "text": f"{marker} q"}]  # type: ignore[index]
            assert others == prompt[1:]


def test_a_perplexity_of_another_prompt_is_forgotten() -> None:
    both = [Trace("p", "x" * n, score=1, perplexity=2.0) for n in (1, 2)]
    assert [trace.perplexity for trace in length_control(both)] == [None, None]


def test_different_prompts_of_one_id_are_refused() -> None:
    marked = length_control(traces(1, 9))
    for operator in (length_control, length_pairs, shortest_correct):
        with pytest.raises(ValueError, match=r"such as '\[\w+\] p' and '\[\w+\] p', so that"):
            operator(marked)
    steps = serialise_steps([Trace("p", "one.\n\ntwo.", score=1), Trace("p", "1.\n\n2", score=1)])
    with pytest.raises(ValueError, match="have different prompts"):
        length_pairs(steps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long": ""}, "long must be a marker"),
        ({"short": "  "}, "short must be a marker"),
        ({"long": 5}, "long must be a text"),
        ({"long": "a", "short": "a"}, "long and short must be two markers"),
        ({"pairs_only": 2}, "pairs_only must be true or false"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
    ],
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        length_control([], **options)


def test_traces_without_a_score_are_refused() -> None:
    with pytest.raises(ValueError, match="has no score; verify traces"):
        length_control([Trace("p", "a"), Trace("p", "bb")])
