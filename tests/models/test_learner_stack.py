"""A stack of learners: a network in parts, and how many of them are enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from kdlight.models.learner_stack import LearnerStack, sufficient_learners


def stack(**options: Any) -> LearnerStack:
    torch.manual_seed(0)
    return LearnerStack(3, width=4, hidden=6, out=5, **options).double()


def test_all_learners_are_one_network() -> None:
    layers, x = stack(), torch.randn(2, 7, 4, dtype=torch.float64)
    whole = nn.Sequential(layers.first, nn.GELU(), layers.second)
    torch.testing.assert_close(layers(x), whole(x))
    outputs = layers.outputs(x)
    assert outputs.shape == (2, 7, 4, 5)
    assert not outputs[..., 0, :].any()
    for count in range(4):
        torch.testing.assert_close(layers(x, count), outputs[..., count, :])
    assert not layers(x, 0).any()


def test_a_detached_output_trains_one_learner() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    for detached in (True, False):
        layers = stack(detached=detached)
        for count in range(1, 4):
            layers.zero_grad()
            layers.outputs(x)[:, count].square().sum().backward()
            gradient = layers.second.weight.grad
            assert gradient is not None
            trained = [part.any().item() for part in gradient.chunk(3, -1)]
            first = count - 1 if detached else 0
            assert trained == [first <= i < count for i in range(3)]


def test_gradients() -> None:
    layers = stack(detached=False)
    assert gradcheck(layers.outputs, torch.randn(2, 4, dtype=torch.float64, requires_grad=True))


def by_loop(outputs: Tensor, target: Tensor, factor: float) -> list[int]:
    found = []
    for row, goal in zip(outputs, target, strict=True):
        errors = [float((each - goal).norm()) for each in row]
        enough = [k for k in range(len(row) - 1) if errors[k] / errors[k + 1] < factor]
        found.append(min([*enough, len(row) - 1]))
    return found


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.1, 1.2])
def test_sufficient_learners_agree_with_a_loop(factor: float) -> None:
    target = torch.randn(50, 3, dtype=torch.float64)
    steps = torch.rand(50, 5, 1, dtype=torch.float64).cumsum(1) / 3
    outputs = torch.cat((torch.zeros(50, 1, 3), steps * target[:, None]), 1)
    got = sufficient_learners(outputs, target, factor=factor).tolist()
    assert got == by_loop(outputs, target, factor)
    assert len(set(got)) > 1


def test_an_exact_output_is_enough() -> None:
    outputs = torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    assert sufficient_learners(outputs, torch.tensor([1.0])).item() == 1
    assert sufficient_learners(outputs, torch.tensor([0.0])).item() == 0
    better = torch.tensor([[0.0], [0.5], [0.75], [1.0]])
    assert sufficient_learners(better, torch.tensor([1.0])).item() == 3


def test_arguments_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden must be a multiple of learners .3."):
        LearnerStack(3, width=4, hidden=7)
    with pytest.raises(ValueError, match="learners must be at least 1"):
        LearnerStack(0, width=4, hidden=7)
    with pytest.raises(ValueError, match=r"learners must be in \[0, 3\], got 4|at most 3"):
        stack()(torch.zeros(1, 4, dtype=torch.float64), 4)
    with pytest.raises(ValueError, match="outputs must be"):
        sufficient_learners(torch.zeros(2, 3, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="factor must be above 0"):
        sufficient_learners(torch.zeros(2, 3, 4), torch.zeros(2, 4), factor=0.0)
