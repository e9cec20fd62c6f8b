"""The study of rankings counts right."""

from __future__ import annotations

from typing import Any

import pytest

from tests.studies.ranking import TEACHERS, correlations, students, table


def results() -> dict[str, Any]:
    """Accuracy grows from name to name; the relation ranks so, the semantic the other way."""
    names = list(students("second"))
    found = {
        name: {
            "score": -place - 10.0,
            "std": 0.5,
            "semantic": 2.0 * place,
            "relation": 10.0 - place,
            "parameters": (place * 3) % 8,
        }
        for place, name in enumerate(names)
    }
    accuracy = {
        name: {"0": 10.0 * place, "1": 10.0 * place + 2} for place, name in enumerate(names)
    }
    return {"ranks": {kind: found for kind in TEACHERS}, "accuracy": accuracy}


def test_a_perfect_predictor_has_the_correlation_one() -> None:
    names = list(students("second"))
    got = correlations(results(), names)
    for kind in TEACHERS:
        assert got[f"relation, {kind} teacher"] == pytest.approx(1.0)
        assert got[f"semantic, {kind} teacher"] == pytest.approx(-1.0)
        assert got[f"score, {kind} teacher"] == pytest.approx(-1.0)
    # 1 - 6 sum d^2 / (n (n^2 - 1)), with ranks 0 3 6 1 4 7 2 5 for 0 to 7
    gaps = [0, 3, 6, 1, 4, 7, 2, 5]
    expected = 1 - 6 * sum((g - i) ** 2 for i, g in enumerate(gaps)) / (8 * 63)
    assert got["number of parameters"] == pytest.approx(expected)


def test_the_table_has_a_row_for_each_student_and_predictor() -> None:
    lines = table(results()).splitlines()
    assert lines[2] == "| 3 units | 0 | -10.000 ± 0.500 | -10.000 ± 0.500 | 1.0 ± 1.0 |"
    assert len(lines) == 2 + 8 + 1 + 2 + 7
    assert lines[-1].startswith("| number of parameters | ")
