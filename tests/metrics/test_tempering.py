"""TemperatureCurve: the metrics of logits divided by each temperature."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.metrics import ExpectedCalibrationError, NegativeLogLikelihood, TemperatureCurve
from tests.support.classifier import classifier, measure


def test_each_temperature_divides_the_logits(generator: torch.Generator) -> None:
    logits, labels = classifier(500, generator)
    metric = TemperatureCurve([0.5, 1.0, 3.0], bins=12)
    for rows in torch.arange(500).split(90):
        metric.update(logits[rows], labels[rows])
    curve = metric.compute()
    for i, temperature in enumerate((0.5, 1.0, 3.0)):
        scaled, likelihood = logits / temperature, NegativeLogLikelihood()
        likelihood.update(scaled, labels)
        assert curve["nll"][i] == pytest.approx(likelihood.compute().item(), rel=1e-5)
        error = measure(ExpectedCalibrationError(12), scaled, labels)
        assert curve["ece"][i] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize(("closed", "value"), [("right", 0.475), ("left", 0.525)])
def test_a_confidence_of_one_is_in_the_bin_of_the_other_metrics(closed: Any, value: float) -> None:
    logits = torch.tensor([[0.95, 0.05], [1.0, 0.0]], dtype=torch.float64).log()
    curve = TemperatureCurve([1.0], bins=10, closed=closed)
    curve.update(logits, torch.tensor([0, 1]))
    assert curve.compute()["ece"].item() == pytest.approx(value)


def test_nan_is_not_hidden() -> None:
    curve = TemperatureCurve([1.0])
    curve.update(torch.full((3, 4), torch.nan), torch.tensor([0, 1, 2]))
    assert all(value.isnan().all() for value in curve.compute().values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemperatureCurve([]), "one or more finite numbers above 0, got"),
        (
            lambda: TemperatureCurve([1.0, 0.0]),
            r"one or more finite numbers above 0, got \[1.0, 0.0\]",
        ),
        (lambda: TemperatureCurve([float("nan")]), "one or more finite numbers above 0, got"),
        (lambda: TemperatureCurve([1.0], bins=0), "bins must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
