"""AdaptiveCalibrationError: equal to sorting all predictions, without storing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kdlight.metrics import AdaptiveCalibrationError, predictions
from tests.methods.test_conformance import read
from tests.support.classifier import classifier, measure

(VECTOR,) = (Path(__file__).parents[1] / "conformance" / "calibration").glob("*.safetensors")


def test_the_adaptive_error_is_that_of_the_vector() -> None:
    _, tensors = read(VECTOR)
    logits, labels = tensors["student_logits"], tensors["labels"]
    value = measure(AdaptiveCalibrationError(), logits, labels, batch=7)
    assert value == pytest.approx(tensors["expected_adaptive_ece_15"].item(), rel=1e-6)


def slow_adaptive(confidence: Tensor, correct: Tensor, bins: int) -> float:
    """The error over bins of sorted predictions."""
    order = confidence.argsort(stable=True)
    groups = np.array_split(order.numpy(), bins)
    gaps = [
        (len(g) / len(order)) * (correct[g].double().mean() - confidence[g].double().mean()).abs()
        for g in map(torch.as_tensor, groups)
        if len(g)
    ]
    return float(sum(gaps))


@pytest.mark.parametrize(("count", "bins"), [(200, 15), (17, 4), (3, 5), (1, 15)])
def test_the_adaptive_error_is_exact_for_few(
    count: int, bins: int, generator: torch.Generator
) -> None:
    confidence = 0.2 + 0.8 * torch.rand(count, generator=generator)
    correct = torch.rand(count, generator=generator) < confidence
    metric = AdaptiveCalibrationError(bins)
    metric.update(confidence, correct)
    assert metric.compute().item() == pytest.approx(slow_adaptive(confidence, correct, bins), 1e-5)


def test_the_adaptive_error_is_close_for_many(generator: torch.Generator) -> None:
    logits, labels = classifier(50_000, generator)
    expected = slow_adaptive(*predictions(logits, labels), 15)
    assert measure(AdaptiveCalibrationError(), logits, labels) == pytest.approx(expected, abs=2e-4)


def test_ignored_positions_are_not_counted(generator: torch.Generator) -> None:
    logits, labels = classifier(90, generator)
    ignored = labels.clone()
    ignored[:30] = -100
    dirty = logits.clone()
    dirty[:30] = torch.nan
    expected = measure(AdaptiveCalibrationError(), logits[30:], labels[30:])
    assert measure(AdaptiveCalibrationError(), dirty, ignored) == expected


def test_states_are_of_constant_size() -> None:
    metric = AdaptiveCalibrationError()
    sizes = [state.shape for state in metric.metric_state.values()]  # type: ignore[union-attr]
    for _ in range(3):
        metric.update(torch.rand(100), torch.rand(100) > 0.5)
    assert [state.shape for state in metric.metric_state.values()] == sizes  # type: ignore[union-attr]


def test_nan_is_not_hidden() -> None:
    logits, labels = torch.full((3, 4), torch.nan), torch.tensor([0, 1, 2])
    assert np.isnan(measure(AdaptiveCalibrationError(), logits, labels))


def test_confidences_of_one_are_counted_with_the_largest() -> None:
    confidence = torch.tensor([0.5, 0.9, 1.0, 1.0])
    correct = torch.tensor([True, True, False, True])
    for bins, expected in ((1, 0.1), (2, 0.15 + 0.25), (3, 0.15 + 0.125 + 0.125)):
        metric = AdaptiveCalibrationError(bins)
        metric.update(confidence, correct)
        assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_without_predictions_it_is_zero() -> None:
    metric = AdaptiveCalibrationError()
    metric.update(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert metric.compute() == 0


def test_bins_are_checked() -> None:
    with pytest.raises(ValueError, match="bins must be at least 1, got -2"):
        AdaptiveCalibrationError(-2)
