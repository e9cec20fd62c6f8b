"""Operators that select prompts by difficulty pick the planted ones, and tell what is missing."""

from __future__ import annotations

from collections import Counter
from math import nan
from pathlib import Path
from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    adaptive_difficulty,
    level_distribution,
    pass_rate_band,
    write_traces,
)
from tests.data.traces.operators.planted import planted


def levels(traces: list[Trace]) -> Counter:
    return Counter(int(t.difficulty or 0) for t in {t.prompt_id: t for t in traces}.values())


def test_prompts_have_the_wanted_distribution() -> None:
    kept = adaptive_difficulty(planted(), total=61, weights=(5, 4, 3, 2, 1))
    wanted = {k: 61 * w / 15 for k, w in enumerate((5, 4, 3, 2, 1), start=1)}
    assert len(kept) == 61 * 5
    assert all(abs(levels(kept)[level] - wanted[level]) < 1 for level in wanted)
    assert sum(kept.dropped.values()) == 1000 - len(kept)
    again = adaptive_difficulty(planted(), total=61, seed=1)
    assert again != kept
    assert adaptive_difficulty(planted(), total=61, weights={1: 5, 2: 4, 3: 3, 4: 2, 5: 1}) == kept


def test_a_solved_prompt_is_easy(tmp_path: Path) -> None:
    solved = {f"{i:03}": True for i in range(200)}
    kept = adaptive_difficulty(planted(), total=9, weights=(1,), solved=solved)
    assert set(levels(kept)) - {1}  # all prompts are of level 1 then, whatever their own
    student = [Trace("p", "r", prompt_id=f"{i:03}", score=float(i != 7)) for i in range(200)]
    write_traces(tmp_path / "student.jsonl", student)
    files = str(tmp_path / "student.jsonl")
    read = adaptive_difficulty(planted(), total=199, weights=(1,), solved=files)
    assert "007" not in {trace.prompt_id for trace in read}
    assert len({trace.prompt_id for trace in read}) == 199


def test_the_distribution_can_be_that_of_an_evaluation_set(tmp_path: Path) -> None:
    evaluation = [Trace(f"e{i}", "r", difficulty=2 + 3 * (i % 4 == 0)) for i in range(8)]
    assert level_distribution(evaluation) == {2: 0.75, 5: 0.25}
    write_traces(tmp_path / "evaluation.jsonl", evaluation)
    kept = adaptive_difficulty(planted(), total=20, like=str(tmp_path / "evaluation.jsonl"))
    assert levels(kept) == {2: 15, 5: 5}
    with pytest.raises(ValueError, match="at least one trace"):
        level_distribution([])
    with pytest.raises(ValueError, match="weights and like exclude each other"):
        adaptive_difficulty([], total=1, weights=(1,), like="evaluation.jsonl")


def test_what_is_missing_is_told() -> None:
    few = [Trace(f"p{i}", "r", difficulty=1 + i % 2) for i in range(4)]
    with pytest.warns(UserWarning, match="missing prompts of level 1: 3, prompts of level 2: 3"):
        kept = adaptive_difficulty(few, total=10, weights=(1, 1))
    assert len(kept) == 4
    assert kept.missing == {"prompts of level 1": 3, "prompts of level 2": 3}


def test_a_level_without_a_weight_is_told() -> None:
    kept = adaptive_difficulty(planted(), total=10, weights={2: 1})
    assert levels(kept) == {2: 10}
    assert kept.dropped == {
        "not sampled": 150,
        **{f"level {level} has no weight": 200 for level in (1, 3, 4, 5)},
    }


def test_a_prompt_without_difficulty_is_dropped_where_others_have_one() -> None:
    traces = [Trace("a", "r", difficulty=1), Trace("b", "r"), Trace("b", "s")]
    kept = adaptive_difficulty(traces, total=1, weights=(1,))
    assert [trace.prompt for trace in kept] == ["a"]
    assert kept.dropped == {"without difficulty": 2}


@pytest.mark.parametrize(
    ("difficulties", "message"),
    [
        ([None], "no trace has a difficulty; fill it with kdlight traces score"),
        ([0.7], "must be one level, a whole number, got 0.7"),
        ([1.0, 2.0], "must be one level, a whole number, got 1, 2"),
    ],
)
def test_a_prompt_without_one_level_is_refused(difficulties: Any, message: str) -> None:
    traces = [Trace("p", f"{d}", difficulty=d) for d in difficulties]
    with pytest.raises(ValueError, match=message):
        adaptive_difficulty(traces, total=1)


def test_pass_rate_band_drops_always_and_never() -> None:
    kept = pass_rate_band(planted())
    assert {int(trace.prompt_id) % 6 for trace in kept} == {1, 2, 3, 4}
    assert sum(kept.dropped.values()) == 1000 - len(kept)
    assert set(kept.dropped) == {"pass rate below the band", "pass rate above the band"}
    assert {int(t.prompt_id) % 6 for t in pass_rate_band(planted(), low=0.3, high=0.7)} == {2, 3}
    assert len(pass_rate_band(planted(), inclusive=True)) == 1000
    only = pass_rate_band(planted(), low=0.4, high=0.4, inclusive=True)
    assert {int(trace.prompt_id) % 6 for trace in only} == {2}


@pytest.mark.parametrize(
    ("operator", "options", "message"),
    [
        (pass_rate_band, {"low": nan}, "low must be a finite"),
        (pass_rate_band, {"high": "1"}, "high must be a number"),
        (pass_rate_band, {"high": 80}, r"high must be in \[0, 1\]"),
        (pass_rate_band, {"threshold": nan}, "threshold must be"),
        (pass_rate_band, {"low": 0.8, "high": 0.2}, "low must be below high"),
        (pass_rate_band, {"low": 0.5, "high": 0.5}, "low must be below high"),
        (adaptive_difficulty, {"total": -3}, "total must be at least 1, got -3"),
        (adaptive_difficulty, {"total": 0}, "total must be at least 1"),
        (adaptive_difficulty, {"total": 2.5}, "total must be an integer"),
        (adaptive_difficulty, {"weights": (1.0, nan), "total": 3}, "weights must be"),
        (adaptive_difficulty, {"weights": (0.0,), "total": 3}, "not all 0"),
        (adaptive_difficulty, {"weights": {"easy": 1.0}, "total": 3}, "a level of weights must be"),
        (adaptive_difficulty, {"seed": "a", "total": 3}, "seed must be an integer"),
        (adaptive_difficulty, {"weights": 5, "total": 3}, "weights must be a list of numbers"),
        (adaptive_difficulty, {"solved": 5, "total": 3}, "solved must be a mapping"),
        (adaptive_difficulty, {"solved": {1: True}, "total": 3}, "a key of solved must be a text"),
        (adaptive_difficulty, {"solved": {"1": "no"}, "total": 3}, "solved of '1' must be true or"),
        (pass_rate_band, {"inclusive": "false"}, "inclusive must be true or false"),
    ],
    ids=range(18),
)
def test_bad_arguments_are_named_without_traces(operator: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        operator([], **options)
