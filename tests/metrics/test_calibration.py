"""Calibration: equal to torchmetrics, to the vectors and to slow definitions; nothing is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from kdlight import LossInputs
from kdlight.metrics import (
    AdaptiveCalibrationError,
    BrierScore,
    CalibrationError,
    DistillationMetrics,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
    TemperatureCurve,
    predictions,
)
from tests.methods.test_conformance import read

(VECTOR,) = (Path(__file__).parents[1] / "conformance" / "calibration").glob("*.safetensors")


def measure(metric: Any, logits: Tensor, labels: Tensor, *, batch: int = 10**6) -> float:
    for rows in torch.arange(len(logits)).split(batch):
        metric.update(*predictions(logits[rows], labels[rows]))
    return metric.compute().item()


def classifier(count: int, generator: torch.Generator, *, scale: float = 3.0) -> Any:
    """Logits ``(n, V)`` that are right more often than not, some of them surely, and labels."""
    logits = scale * torch.randn(count, 6, generator=generator)
    labels = (logits / scale + torch.randn(count, 6, generator=generator)).argmax(-1)
    logits[::20] *= 30  # a confidence of exactly 1
    return logits, labels


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("bins", [10, 15])
def test_errors_are_those_of_the_vector(norm: Any, bins: int) -> None:
    _, tensors = read(VECTOR)
    logits, labels = tensors["student_logits"], tensors["labels"]
    expected = tensors[f"expected_ce_{norm}_{bins}"].item()
    assert measure(CalibrationError(bins, norm), logits, labels) == pytest.approx(expected, 1e-6)


def test_the_adaptive_error_is_that_of_the_vector() -> None:
    _, tensors = read(VECTOR)
    logits, labels = tensors["student_logits"], tensors["labels"]
    found = measure(AdaptiveCalibrationError(), logits, labels, batch=7)
    assert found == pytest.approx(tensors["expected_adaptive_ece_15"].item(), rel=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_errors_are_those_of_torchmetrics(norm: Any, generator: torch.Generator) -> None:
    logits, labels = classifier(3000, generator)
    assert (logits.softmax(-1).max(-1).values == 1).sum() > 50
    theirs = MulticlassCalibrationError(6, n_bins=15, norm=norm)
    theirs.update(logits.softmax(-1), labels)
    ours = measure(CalibrationError(15, norm), logits, labels, batch=77)
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-5)
    named = {"l1": ExpectedCalibrationError, "max": MaximumCalibrationError}
    if norm in named:
        assert measure(named[norm](), logits, labels) == pytest.approx(ours, rel=1e-6)


def slow_adaptive(confidence: Tensor, correct: Tensor, bins: int) -> float:
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


def test_scores_are_their_definitions(generator: torch.Generator) -> None:
    logits, labels = classifier(300, generator)
    labels[::7] = -100
    kept = labels >= 0
    q, one_hot = logits[kept].softmax(-1), torch.nn.functional.one_hot(labels[kept], 6)
    likelihood = q[one_hot.bool()]
    for metric, expected in (
        (BrierScore(), (q - one_hot).square().sum(-1).mean()),
        (NegativeLogLikelihood(), -logits[kept].log_softmax(-1)[one_hot.bool()].mean()),
    ):
        metric.update(logits[:100], labels[:100])
        metric.update(logits[100:].view(4, 50, 6), labels[100:].view(4, 50))
        assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(likelihood) < 300


def test_what_is_ignored_does_not_count(generator: torch.Generator) -> None:
    logits, labels = classifier(90, generator)
    kept = labels.clone()
    kept[:30] = -100
    dirty = logits.clone()
    dirty[:30] = torch.nan
    for make in (CalibrationError, AdaptiveCalibrationError):
        assert measure(make(), dirty, kept) == measure(make(), logits[30:], labels[30:])
    for make in (BrierScore, NegativeLogLikelihood):
        masked, removed = make(), make()
        masked.update(dirty, kept)
        removed.update(logits[30:], labels[30:])
        assert masked.compute() == removed.compute()


def test_all_are_measured_for_student_and_teacher(generator: torch.Generator) -> None:
    (student, labels), (teacher, _) = (classifier(60, generator, scale=s) for s in (3.0, 1.0))
    metrics = DistillationMetrics()
    for rows in torch.arange(60).split(25):
        metrics.update(LossInputs(student[rows], teacher[rows], labels[rows]))
    found = metrics.compute()
    for prefix, logits in (("", student), ("teacher_", teacher)):
        for name, metric in (("brier", BrierScore()), ("nll", NegativeLogLikelihood())):
            metric.update(logits, labels)
            assert found[prefix + name] == pytest.approx(metric.compute().item(), rel=1e-5)
        for name, metric in (
            ("ece", ExpectedCalibrationError()),
            ("mce", MaximumCalibrationError()),
            ("ace", AdaptiveCalibrationError()),
        ):
            assert found[prefix + name] == pytest.approx(measure(metric, logits, labels), rel=1e-5)
    assert found["perplexity"] == pytest.approx(found["nll"].exp().item(), rel=1e-6)


def test_a_curve_is_the_bins_that_hold_something() -> None:
    metric = ExpectedCalibrationError(bins=10)
    metric.update(torch.tensor([0.52, 0.58, 0.97, 1.0]), torch.tensor([True, False, True, True]))
    curve = metric.curve()
    assert curve["confidence"] == pytest.approx([0.55, 0.97, 1.0])
    assert curve["accuracy"] == [0.5, 1.0, 1.0]
    assert curve["share"] == [0.5, 0.25, 0.25]


def test_states_are_of_constant_size() -> None:
    for metric in (CalibrationError(), AdaptiveCalibrationError()):
        sizes = [state.shape for state in metric.metric_state.values()]  # type: ignore[union-attr]
        for _ in range(3):
            metric.update(torch.rand(100), torch.rand(100) > 0.5)
        assert [state.shape for state in metric.metric_state.values()] == sizes  # type: ignore[union-attr]


def test_a_broken_network_is_not_hidden() -> None:
    logits, labels = torch.full((3, 4), torch.nan), torch.tensor([0, 1, 2])
    for metric in (CalibrationError(), AdaptiveCalibrationError()):
        assert np.isnan(measure(metric, logits, labels))
    curve = TemperatureCurve([1.0])
    curve.update(logits, labels)
    assert all(value.isnan().all() for value in curve.compute().values())


def test_temperatures_are_measured_as_logits_over_them(generator: torch.Generator) -> None:
    logits, labels = classifier(500, generator)
    metric = TemperatureCurve([0.5, 1.0, 3.0], bins=12)
    for rows in torch.arange(500).split(90):
        metric.update(logits[rows], labels[rows])
    found = metric.compute()
    for i, temperature in enumerate((0.5, 1.0, 3.0)):
        over, likelihood = logits / temperature, NegativeLogLikelihood()
        likelihood.update(over, labels)
        assert found["nll"][i] == pytest.approx(likelihood.compute().item(), rel=1e-5)
        error = measure(ExpectedCalibrationError(12), over, labels)
        assert found["ece"][i] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CalibrationError(0), "bins must be at least 1, got 0"),
        (lambda: CalibrationError(norm="l3"), "norm must be 'l1', 'l2' or 'max', got 'l3'"),  # type: ignore[arg-type]
        (lambda: AdaptiveCalibrationError(-2), "bins must be at least 1, got -2"),
        (lambda: TemperatureCurve([]), "at least one, got"),
        (lambda: TemperatureCurve([1.0, 0.0]), r"above 0, at least one, got \[1.0, 0.0\]"),
        (lambda: TemperatureCurve([1.0], bins=0), "bins must be at least 1, got 0"),
    ],
)
def test_wrong_numbers_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
