"""Expressions that are compared by math-verify."""

from __future__ import annotations

import pytest

from kdlight.data.traces.verification.math_worker import compare


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"),
    [
        (r"\frac{1}{2}", r"\boxed{0.5}", "right"),
        ("1/2", r"The answer is $\frac12$.", "right"),
        (r"2\pi", r"\boxed{2\pi}", "right"),
        (r"2\pi", r"\boxed{6.28}", "wrong"),
        ("x+1", r"\boxed{1+x}", "right"),
        ("x+1", r"\boxed{x-1}", "wrong"),
        ("7", "", "wrong"),
        ("7", "{" * 50, "wrong"),
        ("", r"\boxed{7}", "unreadable"),
        ("???", r"\boxed{???}", "unreadable"),
        ("...", r"\boxed{7}", "unreadable"),
        ("∞", r"\boxed{∞}", "right"),
        ("∅", r"\boxed{7}", "wrong"),
    ],
)
def test_expressions(reference: str, answer: str, outcome: str) -> None:
    pytest.importorskip("math_verify", reason="the extra math is not installed")
    assert compare(reference, answer) == outcome
