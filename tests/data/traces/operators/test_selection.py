"""A selection is a list with a report."""

from __future__ import annotations

import pytest

from kdlight.data.traces import Selection, Trace
from kdlight.data.traces.operators.selection import warn_of_missing


def test_a_selection_is_equal_to_the_list_of_its_traces() -> None:
    trace = Trace("p", "r")
    assert Selection([trace], dropped={"long": 2}) == [trace]
    assert Selection() == []


def test_the_report_has_reasons_that_occurred_and_notes() -> None:
    kept = Selection(dropped={"b": 2, "a": 1, "none": 0}, missing={"c": 3}, notes=["2 rewritten"])
    assert kept.report() == "a: 1; b: 2; missing c: 3; 2 rewritten"
    assert Selection().report() == ""


def test_only_what_is_missing_warns() -> None:
    complete = Selection([Trace("p", "r")])
    assert warn_of_missing("name", complete, remedy="x") is complete
    with pytest.warns(UserWarning, match=r"name found fewer .* missing c: 3; ask for less"):
        warn_of_missing("name", Selection(missing={"c": 3}), remedy="ask for less")
