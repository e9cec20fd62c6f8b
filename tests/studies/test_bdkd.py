"""The study of BD-KD runs: one epoch of each method, and its table and picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import bdkd
from tests.studies.bdkd_report import draw, report


@pytest.mark.filterwarnings("ignore::UserWarning")  # few batches, no workers, no validation
@pytest.mark.slow
def test_the_study_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bdkd, "EPOCHS", 1)
    results = {
        method: [bdkd.run((4, method, seed)) for seed in range(2)] for method in bdkd.METHODS
    }
    text = report(4, results)
    assert all(f"| {method} | " in text for method in bdkd.METHODS)
    assert "nan" not in text
    draw({4: results, 5: results}, tmp_path / "bdkd.svg")
    assert (tmp_path / "bdkd.svg").read_text().startswith("<?xml")
