"""Traces are encoded within limits, and the outcomes are counted."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import Trace
from kdlight.data.traces.encode import Limits, encode
from tests.support import tiny_lm


@pytest.mark.parametrize(
    ("trace", "limits", "outcome", "length"),
    [
        (Trace("ab", "cdef"), {}, "kept", 5),
        (Trace("", "cdef"), {}, "empty prompt", 0),
        (Trace("ab", "", finished=False), {}, "empty response", 0),
        (Trace("ab", "cdef"), {"prompt": 1}, "prompt too long", 0),
        (Trace("ab", "cdef"), {"completion": 4}, "response too long", 0),
        (Trace("ab", "cdef"), {"length": 2}, "prompt too long", 0),
        (Trace("ab", "cdef"), {"length": 5}, "kept, cut at the end", 3),
        (Trace("ab", "cdef", score=0.0), {"length": 5}, "rejected and would be cut", 0),
        (Trace("ab", "cdef", score=0.0), {"length": 7}, "kept", 5),
    ],
)
def test_each_trace_has_one_outcome(trace: Trace, limits: Any, outcome: str, length: int) -> None:
    encoded, outcomes = encode(
        [trace], tiny_lm.tokenizer(), threshold=0.5, chat=False, limits=Limits(**limits)
    )
    assert outcomes == {outcome: 1}
    assert sum(len(each.completion) for each in encoded) == length
    assert all(each.rejected == (trace.score == 0.0) for each in encoded)


@pytest.mark.parametrize(("name", "least"), [("prompt", 1), ("completion", 1), ("length", 2)])
def test_a_limit_leaves_room_for_a_token(name: str, least: int) -> None:
    Limits(**{name: least})
    with pytest.raises(ValueError, match=f"max_{name} must be at least {least}"):
        Limits(**{name: least - 1})
