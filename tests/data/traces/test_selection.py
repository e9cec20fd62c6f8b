"""Operators that select traces: what they pick from planted data, whatever the order of it."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    adaptive_difficulty,
    joint_rank,
    length_control,
    pass_rate_band,
    quality_filter,
    shortest_correct,
    teacher_mix,
    verified_rejection,
)


def planted(prompts: int = 200, of_each: int = 5) -> list[Trace]:
    """A thousand traces: of prompt i, i % 6 are right, and the right ones are ever longer."""
    traces = []
    for i in range(prompts):
        for k in range(of_each):
            right = k < i % (of_each + 1)
            traces.append(
                Trace(
                    f"prompt {i}",
                    f"response {k}",
                    prompt_id=f"{i:03}",
                    score=float(right),
                    n_tokens=10 + k if right else 1,
                    difficulty=float(1 + i % 5),
                    teacher=f"teacher {k % 2}",
                    perplexity=float(k),
                )
            )
    return traces


OPERATORS: dict[str, Any] = {
    "verified_rejection": verified_rejection,
    "shortest_correct": shortest_correct,
    "quality_filter": lambda t: quality_filter(t, max_length=12),
    "joint_rank": lambda t: joint_rank(t, keep=0.1),
    "pass_rate_band": pass_rate_band,
    "adaptive_difficulty": lambda t: adaptive_difficulty(t, total=30),
    "teacher_mix best": teacher_mix,
    "teacher_mix one": lambda t: teacher_mix(t, per_prompt="one"),
    "teacher_mix all": lambda t: teacher_mix(t, per_prompt="all"),
    "length_control": length_control,
}
IDEMPOTENT = OPERATORS.keys() - {"joint_rank", "length_control", "shortest_correct"}
each = pytest.mark.parametrize("name", OPERATORS)


@each
def test_the_order_of_the_traces_does_not_matter(name: str) -> None:
    traces = planted()
    expected = OPERATORS[name](traces)
    assert 0 < len(expected) <= len(traces)
    for seed in range(3):
        shuffled = random.Random(seed).sample(traces, len(traces))
        assert OPERATORS[name](shuffled) == expected


@each
def test_nothing_in_is_nothing_out(name: str) -> None:
    assert OPERATORS[name]([]) == []


@pytest.mark.parametrize("name", sorted(IDEMPOTENT - {"adaptive_difficulty", "pass_rate_band"}))
def test_twice_is_once(name: str) -> None:
    once = OPERATORS[name](planted())
    assert OPERATORS[name](once) == once


def test_verified_rejection_gives_no_wrong_one_without_a_right_one() -> None:
    kept = verified_rejection(planted(), per_prompt=2)
    sides = {name: Counter[bool]() for name in {trace.prompt_id for trace in kept}}
    for trace in kept:
        sides[trace.prompt_id][trace.score == 1] += 1
    assert all(1 <= sides[name][True] <= 2 and sides[name][False] <= 2 for name in sides)
    assert "000" not in sides


def test_shortest_correct_picks_the_planted_trace() -> None:
    kept = shortest_correct(planted())
    assert {trace.response for trace in kept} == {"response 0"}
    assert len(kept) == sum(i % 6 >= 2 for i in range(200))  # one candidate is no choice
    assert len(shortest_correct(planted(), candidates=1)) == sum(i % 6 >= 1 for i in range(200))
    tie = [Trace("p", text, score=score, n_tokens=1) for text, score in (("b", 1), ("a", 0.95))]
    assert shortest_correct(tie)[0].response == "b"


def test_joint_rank_at_its_ends_is_one_order() -> None:
    by_difficulty = joint_rank(planted(), weight=1.0, keep=0.2)
    assert {trace.difficulty for trace in by_difficulty} == {5.0}
    by_length = joint_rank(planted(), weight=0.0, keep=0.2)
    lengths = sorted((trace.length for trace in planted()), reverse=True)
    assert [trace.length for trace in by_length] == lengths[:200]


def test_adaptive_difficulty_has_the_wanted_distribution() -> None:
    kept = adaptive_difficulty(planted(), total=61, weights=(5, 4, 3, 2, 1))
    levels = Counter(trace.difficulty for trace in kept)
    wanted = {float(k): 61 * w / 15 for k, w in enumerate((5, 4, 3, 2, 1), start=1)}
    assert sum(levels.values()) == 61 * 5
    assert all(abs(levels[level] / 5 - wanted[level]) < 1 for level in wanted)
    again = adaptive_difficulty(planted(), total=61, seed=1)
    assert again != kept
    solved = {f"{i:03}": True for i in range(200)}
    levels_asked = {t.difficulty for t in adaptive_difficulty(planted(), total=9, solved=solved)}
    assert levels_asked - {1.0}  # all prompts are of level 1 then, whatever their own


def test_pass_rate_band_drops_always_and_never() -> None:
    kept = {int(trace.prompt_id) % 6 for trace in pass_rate_band(planted())}
    assert kept == {1, 2, 3, 4}
    assert {int(t.prompt_id) % 6 for t in pass_rate_band(planted(), low=0.3, high=0.7)} == {2, 3}
    assert len(pass_rate_band(planted(), inclusive=True)) == 1000


def test_quality_filter_drops_circles_and_strangers() -> None:
    circle = Trace("p", "on and on " * 60)
    fine = Trace("p", " ".join(map(str, range(200))), teacher="t", perplexity=9.0)
    assert quality_filter([circle, fine]) == [fine]
    assert quality_filter([circle], repeats=10_000) == [circle]
    assert quality_filter([fine], max_perplexity={"t": 8.0}) == []
    assert quality_filter([fine], max_perplexity={"other": 8.0}) == [fine]


def test_teachers_are_mixed_by_weight() -> None:
    kept = teacher_mix(planted(), weights={"teacher 0": 3, "teacher 1": 1}, per_prompt="one")
    assert Counter(trace.teacher for trace in kept) == {"teacher 0": 150, "teacher 1": 50}
    assert {t.teacher for t in teacher_mix(planted(), weights={"teacher 1": 1})} == {"teacher 1"}
    best = teacher_mix(planted())
    assert len(best) == 200
    assert all(
        trace.score == 1 for trace in best if trace.prompt_id != "000" and int(trace.prompt_id) % 6
    )


def test_length_control_marks_long_and_short() -> None:
    traces = [Trace("p", "x" * n) for n in (1, 9)] + [Trace("alone", "x")]
    chat = [Trace([{"role": "user", "content": "q"}], "x" * n) for n in (1, 9)]
    kept = length_control(traces + chat)
    assert {(t.prompt, t.length) for t in kept if isinstance(t.prompt, str)} == {
        ("[short] p", 1),
        ("[long] p", 9),
    }
    assert sorted(t.prompt[-1]["content"] for t in kept if not isinstance(t.prompt, str)) == [
        "[long] q",
        "[short] q",
    ]
    assert len({t.prompt_id for t in kept}) == 2  # of one prompt still


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verified_rejection([Trace("p", "r")]), "has no score; verify"),
        (lambda: joint_rank([Trace("p", "r")]), "has no difficulty"),
        (lambda: joint_rank([], weight=2.0), r"weight must be in \[0, 1\]"),
        (lambda: adaptive_difficulty([], total=1, weights=(0.0,)), "not all 0"),
        (lambda: teacher_mix([], weights={"a": 0.0}), "weights must be above 0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
