"""The study of domains runs, counts right and continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.studies import domains


def results() -> dict[str, Any]:
    """Ratios that grow by 0.1 with the seed; the worst of DDK is lower by 0.5 each time."""
    found = {}
    for number, way in enumerate(domains.WAYS):
        for seed in range(2):
            worst = 2.0 + 0.1 * seed - (0.5 if way == "DDK" else 0.0)
            found[f"{way}|{seed}"] = {
                "ratios": {"help": 1.0 + 0.1 * number, "code": 1.2, "tables": worst},
                "teacher": {"help": 3.0, "code": 4.0, "tables": 2.0},
                "plan": [[0, [0.25, 0.25, 0.5]]],
                "shares": [0.25, 0.25, 0.5],
            }
    return found


def test_the_table_has_worst_mean_and_paired_difference() -> None:
    lines = domains.table(results(), 2).splitlines()
    assert lines[2].split(" | ")[1:5:3] == ["1.000 ± 0.000", "2.050 ± 0.050"]
    assert lines[4].startswith("| DDK | 1.200 ± 0.000 | 1.200 ± 0.000 | 1.550 ± 0.050 |")
    assert lines[4].endswith("| -0.500 ± 0.000 |")
    assert "Drawn by DDK: help 25.0 ± 0.0 %" in lines[-1]


@pytest.mark.slow
def test_the_study_continues_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "HELD_OUT", 4)
    monkeypatch.setattr(domains, "SAMPLES", 4)
    arguments = ["--output", str(tmp_path), "--seeds", "1", "--steps", "3", "--teacher-steps", "1"]
    domains.main(arguments)
    path = tmp_path / "results.json"
    first = json.loads(path.read_text())
    shares = first["results"]["uniform|0"]["shares"]
    assert sum(shares) == pytest.approx(1)
    assert len(first["results"]["DDK|0"]["plan"]) == 4  # the weights change after each step
    del first["results"]["DDK|0"]
    path.write_text(json.dumps(first))
    domains.main(arguments)
    again = json.loads(path.read_text())
    assert again["results"].keys() == {f"{way}|0" for way in domains.WAYS}
    assert (tmp_path / "domains.svg").exists()
    assert "| DDK |" in (tmp_path / "table.md").read_text()
