"""The mean squared error of outputs, also of a single one."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import LossInputs, MeanSquaredError, Weighted
from kdlight.sources import Dense, LogitsSource, Mixture, TopK, stack


@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_the_mean_over_outputs_and_positions(outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, outputs, generator=generator).unbind()
    labels = torch.randn(4, outputs)  # of a regression: not of the shape of the positions
    loss = MeanSquaredError()(LossInputs(student.requires_grad_(), teacher, labels))
    torch.testing.assert_close(loss.mean(), torch.nn.functional.mse_loss(student, teacher))
    assert loss.count == 4
    mixture = Weighted({"mse": MeanSquaredError()}, {"mse": 2.0})
    torch.testing.assert_close(mixture(LossInputs(student, teacher, labels)).total, 2 * loss.total)


@pytest.mark.parametrize("kind", ["top k", "average", "some rows"])
def test_a_teacher_that_has_log_probabilities_is_refused(kind: str) -> None:
    logits = torch.randn(4, 7)
    live = Dense(logits)
    known: LogitsSource = TopK.of(logits, 7)
    if kind == "average":
        known = Mixture((live, live), (0.5, 0.5))
    if kind == "some rows":
        rows = [torch.tensor([0, 1]), torch.tensor([2, 3])]
        half = [TopK.of(logits[:2], 7), Dense(logits[2:])]
        known = stack(half, rows, torch.Size([4]), torch.device("cpu"))
    assert MeanSquaredError()(LossInputs(logits, live)).mean() == 0
    with pytest.raises(ValueError, match="compares outputs themselves"):
        MeanSquaredError()(LossInputs(logits, known))
