"""The mean squared error of outputs, also of a single one."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import LossInputs, MeanSquaredError, Weighted


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
