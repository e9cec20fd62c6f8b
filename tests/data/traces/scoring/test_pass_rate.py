"""The difficulty of a prompt is the fraction of its traces that are incorrect."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kdlight.data.traces import Trace, adaptive_difficulty, pass_rate_difficulty
from kdlight.data.traces.operators.difficulty import pass_rate_band
from kdlight.data.traces.scoring.pass_rate import to_level


def planted() -> list[Trace]:
    """Prompt n has 10 traces, of which n are correct."""
    return [Trace(f"{n}", f"{i}", score=float(i < n)) for n in range(11) for i in range(10)]


def test_the_planted_rates_are_found() -> None:
    traces = planted()
    values = pass_rate_difficulty(traces)
    assert values == [(10 - int(str(trace.prompt))) / 10 for trace in traces]


@pytest.mark.parametrize("levels", [None, 2, 3, 5, 10, 11, 100])
def test_the_order_of_traces_does_not_matter(levels: int | None) -> None:
    traces = planted()
    values = pass_rate_difficulty(traces, levels=levels)
    order = Random(1).sample(range(len(traces)), len(traces))
    shuffled = pass_rate_difficulty([traces[i] for i in order], levels=levels)
    assert shuffled == [values[i] for i in order]


@pytest.mark.parametrize("levels", [2, 3, 5, 10, 11, 100])
def test_levels_are_whole_rise_with_difficulty_and_reach_both_ends(levels: int) -> None:
    traces = planted()
    by_level = pass_rate_difficulty(traces, levels=levels)
    found = list(zip(pass_rate_difficulty(traces), by_level, strict=True))
    assert all(isinstance(level, int) for _, level in found)
    by_rate = [level for _, level in sorted(found)]
    assert by_rate == sorted(by_rate)
    assert (by_rate[0], by_rate[-1]) == (1, levels)


@pytest.mark.parametrize("levels", [2, 3, 7, 10])
def test_levels_have_equal_width_in_spite_of_rounding(levels: int) -> None:
    """(1 - 0.9) * 10 is 0.9999999999999998, and 0.57 * 100 is 56.99999999999999."""
    for wrong in range(101):
        traces = [Trace("a", f"{i}", score=float(i >= wrong)) for i in range(100)]
        level = pass_rate_difficulty(traces, levels=levels)[0]
        assert level == min(1 + wrong * levels // 100, levels)


def test_an_operator_can_use_levels() -> None:
    traces = planted()
    levels = pass_rate_difficulty(traces, levels=5)
    graded = [
        Trace(t.prompt, t.response, difficulty=level)
        for t, level in zip(traces, levels, strict=True)
    ]
    assert len({t.prompt_id for t in adaptive_difficulty(graded, total=5, weights=[1] * 5)}) == 5


def test_it_agrees_with_the_band_of_pass_rates() -> None:
    traces = planted()
    kept = {trace.prompt_id for trace in pass_rate_band(traces, low=0.25, high=0.75)}
    values = zip(traces, pass_rate_difficulty(traces), strict=True)
    assert kept == {trace.prompt_id for trace, value in values if 0.25 < value < 0.75}


def test_a_threshold_decides_what_is_correct() -> None:
    traces = [Trace("a", "1", score=0.5), Trace("a", "2", score=0.2)]
    assert pass_rate_difficulty(traces) == [1.0, 1.0]
    assert pass_rate_difficulty(traces, threshold=0.3) == [0.5, 0.5]
    assert pass_rate_difficulty([]) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"levels": 1}, ValueError, "levels must be at least 2, got 1"),
        ({"levels": 2.0}, TypeError, "levels must be an integer, got 2.0"),
        ({"levels": True}, TypeError, "levels must be an integer, got True"),
        ({"threshold": float("nan")}, ValueError, "threshold must be a finite number, got nan"),
    ],
)
def test_wrong_arguments_are_named_without_traces(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        pass_rate_difficulty([], **options)


def test_a_trace_without_a_score_is_named() -> None:
    with pytest.raises(ValueError, match="a trace of prompt 'sum' has no score"):
        pass_rate_difficulty([Trace("1 + 1 =", "2", prompt_id="sum")])


def test_the_ends_of_levels() -> None:
    assert [to_level(value, 2) for value in (0.0, 0.499, 0.5, 1.0)] == [1, 1, 2, 2]
