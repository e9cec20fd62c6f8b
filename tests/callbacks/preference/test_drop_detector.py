"""The drop of a moving average below the first values."""

from __future__ import annotations

import pytest

from kdlight.callbacks.preference.drop_detector import EMADropDetector


def test_the_average_starts_with_the_first_value() -> None:
    detector = EMADropDetector(first=1, decay=0.9)
    assert detector.add(-1.0) is None
    assert detector.baseline == -1.0
    assert detector.add(-2.0) == pytest.approx(0.1)  # of -1.1
    assert detector.add(-2.0) == pytest.approx(0.19)


def test_a_reset_keeps_the_baseline() -> None:
    detector = EMADropDetector(first=1, decay=0.9)
    detector.add(-1.0)
    detector.reset_average()
    assert detector.add(-3.0) == pytest.approx(2.0)


def test_a_restored_detector_continues() -> None:
    values = [-1.0, -1.5, -2.0, -1.0, -4.0]
    detector = EMADropDetector(first=2, decay=0.5)
    for value in values[:3]:
        detector.add(value)
    restored = EMADropDetector(first=2, decay=0.5)
    restored.load_state_dict(detector.state_dict())
    assert [restored.add(v) for v in values[3:]] == [detector.add(v) for v in values[3:]]
