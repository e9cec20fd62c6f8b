"""A report is one line: what was filled, what was not, and why."""

from __future__ import annotations

from pathlib import Path

from kdlight.data.traces.scoring.report import Report


def test_a_report_is_one_line() -> None:
    missing = {
        ("perplexity", "empty response"): 2,
        ("perplexity", "longer than the context of 9 tokens"): 1000,
        ("difficulty", "prompt longer than the context of the judge"): 1,
    }
    filled = {"n_tokens": 2002, "perplexity": 1000, "difficulty": 2001}
    report = Report(Path("t.jsonl"), 2002, filled, missing, ["a note"])
    assert str(report) == (
        "2,002 traces, n_tokens of 2,002, perplexity of 1,000 (without, empty response: 2, longer"
        " than the context of 9 tokens: 1,000), difficulty of 2,001 (without, prompt longer than"
        " the context of the judge: 1); a note"
    )


def test_what_is_complete_says_no_more() -> None:
    assert str(Report(Path("t.jsonl"), 2, {"n_tokens": 2}, {})) == "2 traces, n_tokens of 2"
