"""The pictures of a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.callbacks.report import drawing
from kdlight.callbacks.report.drawing import check_matplotlib, draw_reliability, draw_run

PNG = b"\x89PNG"


def width(path: Path) -> int:
    """The width of a PNG file in pixels."""
    content = path.read_bytes()
    assert content[:4] == PNG
    return int.from_bytes(content[16:20], "big")


def test_a_curve_without_values_gets_no_panel(tmp_path: Path) -> None:
    draw_run({"loss": [(1, 2.0), (2, 1.0)], "t": []}, tmp_path / "one.png")
    draw_run({"loss": [(1, 2.0), (2, 1.0)], "t": [(1, 0.4)]}, tmp_path / "two.png")
    assert width(tmp_path / "two.png") == 2 * width(tmp_path / "one.png")


def test_there_is_a_reliability_diagram_per_network(tmp_path: Path) -> None:
    curve = {"share": [0.5, 0.5], "confidence": [0.2, 0.8], "accuracy": [0.3, 0.6]}
    draw_reliability({"student": curve}, tmp_path / "one.png")
    draw_reliability({"student": curve, "teacher": curve}, tmp_path / "two.png")
    assert width(tmp_path / "two.png") == 2 * width(tmp_path / "one.png")


def test_matplotlib_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    check_matplotlib()
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="or remove the callback"):
        check_matplotlib()
