"""Prompts get a marker of the length of their response."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces import (
    Trace,
    length_control,
)
from tests.data.traces.planted import check_order_independence

OPERATORS: dict[str, Any] = {
    "length_control": length_control,
}
each = pytest.mark.parametrize("name", OPERATORS)


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


@each
def test_the_order_of_the_traces_does_not_matter(name: str) -> None:
    check_order_independence(OPERATORS[name])


@each
def test_no_traces_give_no_traces(name: str) -> None:
    assert OPERATORS[name]([]) == []
