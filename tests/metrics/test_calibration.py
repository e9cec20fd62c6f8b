"""CalibrationError: equal to torchmetrics and to the vectors, in memory of constant size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from kdlight.metrics import (
    CalibrationError,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    predictions,
)
from tests.methods.test_conformance import read
from tests.support.classifier import classifier, measure

(VECTOR,) = (Path(__file__).parents[1] / "conformance" / "calibration").glob("*.safetensors")


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("bins", [10, 15])
def test_errors_are_those_of_the_vector(norm: Any, bins: int) -> None:
    _, tensors = read(VECTOR)
    logits, labels = tensors["student_logits"], tensors["labels"]
    expected = tensors[f"expected_ce_{norm}_{bins}"].item()
    assert measure(CalibrationError(bins, norm), logits, labels) == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_errors_are_those_of_torchmetrics(norm: Any, generator: torch.Generator) -> None:
    logits, labels = classifier(3000, generator)
    assert (logits.softmax(-1).max(-1).values == 1).sum() > 50
    theirs = MulticlassCalibrationError(6, n_bins=15, norm=norm)
    theirs.update(logits.softmax(-1), labels)
    ours = measure(CalibrationError(15, norm, closed="left"), logits, labels, batch=77)
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-5)
    named = {"l1": ExpectedCalibrationError, "max": MaximumCalibrationError}
    if norm in named:
        error = named[norm](closed="left")
        assert measure(error, logits, labels) == pytest.approx(ours, rel=1e-6)


def guo(confidence: Tensor, correct: Tensor, bins: int) -> tuple[float, float]:
    """The expected and the maximum error, over bins ((m - 1) / M, m / M]."""
    counted, gaps = 0, []
    for m in range(1, bins + 1):
        member = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if member.any():
            gap = (correct[member].double().mean() - confidence[member].mean()).abs().item()
            counted += int(member.sum())
            gaps.append((int(member.sum()), gap))
    assert counted == len(confidence)
    return sum(n * gap for n, gap in gaps) / counted, max(gap for _, gap in gaps)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_errors_are_those_of_guo(bins: int, generator: torch.Generator) -> None:
    logits, labels = classifier(3000, generator)
    confidence, correct = predictions(logits.double(), labels)
    edges = torch.arange(1, 16, dtype=torch.float64) / 15  # also at the edges themselves
    confidence = torch.cat([confidence, edges, edges[-1:]])
    correct = torch.cat([correct, torch.arange(16) % 3 == 0])
    expected = guo(confidence, correct, bins)
    for metric, value in zip(
        (ExpectedCalibrationError(bins), MaximumCalibrationError(bins)), expected, strict=True
    ):
        metric.update(confidence, correct)
        assert metric.compute().item() == pytest.approx(value, rel=1e-6)


def test_a_confidence_of_one_belongs_to_the_last_bin() -> None:
    confidence, correct = torch.tensor([0.95, 1.0]), torch.tensor([True, False])
    for kind in (ExpectedCalibrationError, MaximumCalibrationError):
        error = kind(bins=10)
        error.update(confidence, correct)
        assert error.compute().item() == pytest.approx(0.475)


def test_predictions_have_a_confidence_and_are_right_or_wrong() -> None:
    logits = torch.tensor([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]]).log()
    confidence, correct = predictions(logits, torch.tensor([1, 1, -100]))
    torch.testing.assert_close(confidence, torch.tensor([0.8, 0.7]))
    assert correct.tolist() == [True, False]


def test_ignored_positions_are_not_counted(generator: torch.Generator) -> None:
    logits, labels = classifier(90, generator)
    ignored = labels.clone()
    ignored[:30] = -100
    dirty = logits.clone()
    dirty[:30] = torch.nan
    expected = measure(CalibrationError(), logits[30:], labels[30:])
    assert measure(CalibrationError(), dirty, ignored) == expected


def test_a_curve_has_the_bins_that_are_not_empty() -> None:
    metric = ExpectedCalibrationError(bins=10)
    metric.update(torch.tensor([0.52, 0.58, 0.97, 1.0]), torch.tensor([True, False, True, True]))
    curve = metric.curve()
    assert curve["confidence"] == pytest.approx([0.55, 0.985])
    assert curve["accuracy"] == [0.5, 1.0]
    assert curve["share"] == [0.5, 0.5]


def test_states_are_of_constant_size() -> None:
    metric = CalibrationError()
    sizes = [state.shape for state in metric.metric_state.values()]  # type: ignore[union-attr]
    for _ in range(3):
        metric.update(torch.rand(100), torch.rand(100) > 0.5)
    assert [state.shape for state in metric.metric_state.values()] == sizes  # type: ignore[union-attr]


@pytest.mark.parametrize(("closed", "size"), [("right", 10), ("left", 11)])
def test_a_state_has_an_entry_per_bin(closed: Any, size: int) -> None:
    metric = ExpectedCalibrationError(bins=10, closed=closed)
    for _ in range(5):
        metric.update(torch.rand(100), torch.rand(100) > 0.5)
    assert len(metric.metric_state) == 3
    # with "left", a confidence of exactly 1 has a bin of its own
    assert {metric.count.numel(), metric.confidence.numel(), metric.correct.numel()} == {size}


def test_nan_is_not_hidden() -> None:
    logits, labels = torch.full((3, 4), torch.nan), torch.tensor([0, 1, 2])
    assert torch.tensor(measure(CalibrationError(), logits, labels)).isnan()


@pytest.mark.parametrize("bins", [0, -1])
def test_bins_are_checked(bins: int) -> None:
    with pytest.raises(ValueError, match=f"bins must be at least 1, got {bins}"):
        ExpectedCalibrationError(bins)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CalibrationError(0), "bins must be at least 1, got 0"),
        (
            lambda: CalibrationError(norm="l3"),  # type: ignore[arg-type]
            "norm must be one of 'l1', 'l2', 'max', got 'l3'",
        ),
        (
            lambda: MaximumCalibrationError(closed="both"),  # type: ignore[arg-type]
            "closed must be one of 'right', 'left', got 'both'",
        ),
    ],
)
def test_a_wrong_argument_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
