"""Results of studies are computed once, and never mixed with those of other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.kept_results import KeptResults


def test_a_result_is_computed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def compute() -> dict[str, int]:
        calls.append(1)
        return {"a": len(calls)}

    for _ in range(2):
        results = KeptResults(tmp_path / "results.json", {"sizes": (1, 2)})
        results.get_or_compute("first", compute)["a"] = 9  # a copy
        assert results == {"first": {"a": 1}}
    assert len(calls) == 1
    assert capsys.readouterr().out.count(" s, first: {'a': 1}") == 1


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    KeptResults(path, {"epochs": 1}).get_or_compute("first", lambda: 1)
    with pytest.raises(ValueError, match="has results of .* choose another --output"):
        KeptResults(path, {"epochs": 2})


def test_a_study_that_is_stopped_has_the_results_before(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = KeptResults(path, {})
    results.get_or_compute("first", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        results.get_or_compute("second", lambda: 1 // 0)
    assert KeptResults(path, {}) == {"first": 1}
