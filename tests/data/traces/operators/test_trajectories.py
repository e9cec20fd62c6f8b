"""Trajectories are kept if they are correct and have no error of format."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kdlight.data.traces import Trace, keep_trajectories
from kdlight.data.traces.operators.trajectories import count_turns, errors_of


def trajectory(turns: int, score: float | None, error: Any = None, **options: Any) -> Trace:
    """Return a trajectory of several turns of the assistant, the response included."""
    prompt = [{"role": "user", "content": "q"}]
    for turn in range(turns - 1):
        prompt += [
            {"role": "assistant", "content": f"act {turn}"},
            {"role": "tool", "content": f"result {turn}"},
        ]
    meta = {} if error is None else {"error": error}
    return Trace(prompt, "done", score=score, meta=meta, **options)


PLANTED = [
    trajectory(1, 1.0),
    trajectory(3, 1.0, "execution"),
    trajectory(4, 1.0, []),
    trajectory(5, 1.0, ["execution", "execution"]),
    trajectory(3, 0.0),
    trajectory(3, 0.0, "parse"),
    trajectory(3, 1.0, "parse"),
    trajectory(3, 1.0, "step_limit"),
    trajectory(3, 1.0, ["execution", "step_limit"]),
    trajectory(3, 1.0, ["step_limit", "parse"]),
]


def test_execution_errors_are_kept_and_errors_of_format_are_not() -> None:
    kept = keep_trajectories(PLANTED)
    assert sorted(count_turns(trace) for trace in kept) == [1, 3, 4, 5]
    assert kept.dropped == {"incorrect": 2, "a parse error": 2, "a step-limit error": 2}
    assert len(kept) + sum(kept.dropped.values()) == len(PLANTED)
    short = keep_trajectories(PLANTED, max_turns=3)
    assert sorted(count_turns(trace) for trace in short) == [1, 3]
    assert short.dropped == {**kept.dropped, "more turns than max_turns": 2}


def test_the_order_of_the_traces_does_not_matter_and_again_changes_nothing() -> None:
    kept = keep_trajectories(PLANTED, max_turns=4)
    for seed in range(3):
        shuffled = random.Random(seed).sample(PLANTED, len(PLANTED))
        assert keep_trajectories(shuffled, max_turns=4) == kept
    again = keep_trajectories(kept, max_turns=4)
    assert (again, again.dropped) == (kept, {})
    assert keep_trajectories([]) == []


def test_the_threshold_decides_what_is_correct() -> None:
    traces = [trajectory(2, 0.5), trajectory(2, 0.4)]
    assert keep_trajectories(traces) == []
    assert keep_trajectories(traces, threshold=0.5) == traces[:1]


def test_a_trajectory_without_a_score_is_refused() -> None:
    for error in (None, "parse"):
        with pytest.raises(ValueError, match="has no score; verify traces"):
            keep_trajectories([trajectory(2, None, error)])


@pytest.mark.parametrize("error", ["timeout", "", 3, {"parse": True}, ["parse", "Parse"], True])
def test_an_unknown_error_is_named(error: Any) -> None:
    with pytest.raises(ValueError, match=r'meta\["error"\] .* must be one of .parse.'):
        keep_trajectories([trajectory(2, 1.0, error, prompt_id="p7")])


def test_errors_and_turns_of_a_trace() -> None:
    assert errors_of(trajectory(1, 1.0, ("parse", "execution"))) == ["parse", "execution"]
    assert errors_of(Trace("q", "a", meta={"error": None})) == []
    assert [count_turns(Trace("q", "a")), count_turns(trajectory(4, 1.0))] == [1, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_turns": 0}, "max_turns must be at least 1"),
        ({"max_turns": 2.0}, "max_turns must be an integer"),
        ({"max_turns": True}, "max_turns must be an integer"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"threshold": "0.9"}, "threshold must be a number, got '0.9'"),
    ],
    ids=range(5),
)
def test_bad_arguments_are_named_without_traces(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        keep_trajectories([], **options)
