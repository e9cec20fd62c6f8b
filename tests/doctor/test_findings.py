"""Findings compare by value, and a reason is one line."""

from __future__ import annotations

from kdlight.doctor.findings import Finding, error, reason, warning


def test_errors_and_warnings_differ_by_level() -> None:
    assert error("x") == Finding("error", "x")
    assert warning("x") == Finding("warning", "x")
    assert error("x") != warning("x")


def test_a_reason_is_the_first_line_or_the_name() -> None:
    assert reason(ValueError("\n  first\nsecond")) == "first"
    assert reason(KeyError()) == "KeyError"
