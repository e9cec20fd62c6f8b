"""Deviations, findings and the table of a report."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch

from kdlight.testing import Deviation, Finding, Report, worst
from kdlight.testing.report import apart, demand, find, holds


def test_the_excess_is_relative_to_what_is_allowed() -> None:
    assert Deviation(2e-9, 1e-9).excess == 2
    assert Deviation(0.0, 0.0).excess == 0
    assert Deviation(1e-300, 0.0).excess == inf
    assert Deviation(nan, 1.0).excess == inf


def test_differences_are_relative_to_1_plus_the_largest_expected_value() -> None:
    actual, expected = torch.tensor([9.0, 1.0]), torch.tensor([9.0, 2.0])
    assert apart(actual, expected, "value").found == pytest.approx(0.1)
    assert apart(torch.zeros(0), torch.zeros(0), "value").excess == 0
    assert apart(torch.tensor([nan]), torch.tensor([1.0]), "value").excess == inf


def test_another_shape_is_an_infinite_difference() -> None:
    deviation = apart(torch.zeros(2), torch.zeros(3), "gradient")
    assert deviation.excess == inf
    assert deviation.what == "gradient: shape (2,) instead of (3,)"


def test_a_condition_holds_or_not() -> None:
    assert holds(True, "finite").excess == 0
    assert holds(torch.tensor(False), "finite") == Deviation(inf, 0.0, "finite")


def test_the_worst_is_the_largest_relative_to_what_is_allowed() -> None:
    deviations = [Deviation(1.0, 10.0, "a"), Deviation(0.1, 0.2, "b"), Deviation(0.0, 0.0, "c")]
    assert worst(deviations).what == "b"


def test_a_law_that_raises_is_broken_with_its_error() -> None:
    def a_law_of_nothing(subject: int) -> list[Deviation]:
        raise KeyError(subject)

    (finding,) = find({"a_law_of_nothing": a_law_of_nothing}, 3)  # type: ignore[dict-item]
    assert finding == Finding("a law of nothing", inf, 0.0, "KeyError: 3")
    assert not finding.holds


def test_a_table_shows_the_note_of_a_broken_law() -> None:
    report = Report([Finding("one", 0.0, 1e-9, "value"), Finding("two", 1.0, 1e-9, "gradient")])
    assert [finding.law for finding in report.broken] == ["two"]
    first, second = str(report).splitlines()[1:]
    assert first.startswith("ok")
    assert first.endswith("one")
    assert second.startswith("BROKEN")
    assert second.endswith("two (gradient)")


def test_exactly_the_exceptions_may_be_broken() -> None:
    report = Report([Finding("law one", 0.0, 1.0, ""), Finding("law two", 9.0, 1.0, "value")])
    assert demand(report, "Owner", {"law_two": "a reason"}) is report
    with pytest.raises(AssertionError, match="Owner breaks 1 of 2 laws"):
        demand(report, "Owner", {})
    with pytest.raises(AssertionError, match="Owner satisfies laws that .*: law one$"):
        demand(report, "Owner", {"law_one": "a reason", "law_two": "a reason"})
    with pytest.raises(ValueError, match="unknown laws: law three; the laws are: law one, law two"):
        demand(report, "Owner", {"law_three": "a reason"})
