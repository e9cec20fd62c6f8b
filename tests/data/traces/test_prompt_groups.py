"""Traces are grouped by prompt in a fixed order, and compared with a threshold."""

from __future__ import annotations

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.prompt_groups import group_by_prompt, in_order, is_correct, lengths


def test_groups_and_traces_are_sorted() -> None:
    traces = [Trace("b", "2"), Trace("a", "z"), Trace("b", "1", teacher="t"), Trace("b", "1")]
    groups = group_by_prompt(traces)
    assert list(groups) == sorted(groups)
    by_prompt = {group[0].prompt: group for group in groups.values()}
    assert by_prompt["b"] == [traces[3], traces[0], traces[2]]
    assert by_prompt["a"] == [traces[1]]


def test_a_score_at_the_threshold_is_correct() -> None:
    trace = Trace("a", "1", score=0.9)
    assert is_correct(trace)
    assert not is_correct(trace, threshold=0.95)
    with pytest.raises(ValueError, match="has no score; verify traces"):
        is_correct(Trace("a", "1"))


def test_lengths_are_tokens_where_all_are_counted() -> None:
    counted, other = Trace("q", "abc", n_tokens=7), Trace("q", "ab")
    assert lengths([counted, counted]) == [7, 7]
    assert lengths([counted, other]) == [3, 2]
    assert lengths([Trace("q", "abc", n_tokens=0)]) == [0]
    assert lengths([]) == []
    reasoned = Trace("q", "ab", response_fields={"reasoning_content": "one more"})
    assert lengths([reasoned, other]) == [len("one more\nab"), 2]


def test_traces_that_differ_in_their_meta_have_one_order() -> None:
    twins = [Trace("q", "a", meta={"n": n}) for n in range(3)]
    assert in_order(twins) == in_order(twins[::-1]) == twins
