"""The text of a report."""

from __future__ import annotations

from kdlight.doctor import Report
from kdlight.doctor.findings import error, warning
from kdlight.doctor.memory_rows import MemoryRow


def test_a_finding_is_listed_once() -> None:
    report = Report()
    report.add(error("a"), warning("b"))
    report.add(error("a"))
    assert (report.errors, report.warnings) == (["a"], ["b"])
    assert str(report).splitlines()[-4:] == ["error: a", "warning: b", "", "this run cannot work"]


def test_alternatives_are_in_brackets_and_unknown_sizes_are_named() -> None:
    rows = [
        MemoryRow("weights", 2048),
        MemoryRow("logits, chunked", 512, alternative=True),
        MemoryRow("activations", None),
    ]
    lines = [" ".join(line.split()) for line in str(Report(rows=rows, memory=4096)).splitlines()]
    assert lines[2:6] == [
        "weights 2.0 KiB",
        "logits, chunked (512 B)",
        "activations ?",
        "sum 2.0 KiB of 4.0 KiB available without activations",
    ]
    assert lines[-1] == "this run can start"
