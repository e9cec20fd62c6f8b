"""The loss of each depth, summed over the micro-batches of a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.callbacks.elastic.depth_losses import DepthLosses
from kdlight.objectives import ForwardKL, LossInputs
from tests.support import toy


def test_a_mean_counts_the_units_of_all_micro_batches(tmp_path: Path) -> None:
    losses, objective = DepthLosses(), ForwardKL()
    losses.attach(objective)
    torch.manual_seed(0)
    inputs = [LossInputs(torch.randn(n, 7), torch.randn(n, 7)) for n in (3, 5, 2)]
    for depth, each in zip((4, 4, 2), inputs, strict=True):
        losses.depth = depth
        objective(each)
    losses.depth = None
    objective(inputs[0])  # such as in a validation
    trainer = toy.trainer(tmp_path)
    means = losses.take_means(trainer)
    both = torch.cat([objective(each).total[None] for each in inputs[:2]]).sum() / 8
    assert means == pytest.approx({4: both.item(), 2: objective(inputs[2]).mean().item()})
    assert losses.take_means(trainer) == {}
    losses.detach()
    losses.depth = 4
    objective(inputs[0])
    assert losses.sums == {}
