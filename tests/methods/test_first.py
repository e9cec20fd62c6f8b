"""FIRST: an overconfident teacher is calibrated before distillation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdlight.metrics.calibration import ExpectedCalibrationError
from kdlight.objectives import LossInputs, TopKForwardKL
from kdlight.sources import TopK

N, D, V = 3000, 6, 12
TEMPERATURES = torch.linspace(1.0, 5.0, 17).tolist()


def ece(log_probs: Tensor, labels: Tensor) -> float:
    error = ExpectedCalibrationError()
    confidence, prediction = log_probs.exp().max(-1)
    error.update(confidence, prediction == labels)
    return float(error.compute())


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("is_cached", [False, True], ids=["live", "cached"])
def test_calibration_halves_the_error_and_the_student_follows(tail: str, is_cached: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator)
    true = x @ torch.randn(D, V, generator=generator)
    labels = torch.multinomial(true.softmax(-1), 1, generator=generator).flatten()
    teacher = 3.0 * true  # three times too confident
    fit, rest = slice(0, N // 2), slice(N // 2, N)  # the temperature is chosen on other data
    errors = [ece((teacher[rest] / t).log_softmax(-1), labels[rest]) for t in TEMPERATURES]
    best = TEMPERATURES[errors.index(min(errors))]
    assert min(errors) < errors[0] / 2
    assert best == pytest.approx(3.0, abs=0.5)

    def student_error(temperature: float) -> float:
        network = nn.Linear(D, V)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
        objective = TopKForwardKL(k=5, tail=tail, temperature=temperature)  # type: ignore[arg-type]
        source = TopK.of(teacher[fit], 5) if is_cached else teacher[fit]
        for _ in range(120):
            optimizer.zero_grad()
            objective(LossInputs(network(x[fit]), source)).mean().backward()
            optimizer.step()
        with torch.no_grad():
            return ece(network(x[rest]).log_softmax(-1), labels[rest])

    assert student_error(best) < student_error(1.0) / 2
