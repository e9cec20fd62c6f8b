"""The Markdown table of a report."""

from __future__ import annotations

from kdlight.callbacks.report.table import render


def test_the_table_names_the_temperature() -> None:
    table = render({"student": {"forward_kl": 1.0}}, temperature=4.0)
    assert table.startswith("| held out (KL at temperature 4) |")


def test_the_table_has_the_rows_of_all_networks() -> None:
    table = render({"student": {"accuracy": 0.5}, "teacher": {"per_second": 1200.0}}, unit="sample")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["held out", "student", "teacher"]
    assert rows[2:] == [["accuracy", "50.00%", ""], ["forward pass, samples/s", "", "1,200"]]
