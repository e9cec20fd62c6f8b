"""Tokens that one side forbids: the same loss and gradient however logits are computed.

The rule stands in the docstring of `kdlight.losses`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import DistillationModule, SingleInput
from kdlight.modules import NonFiniteLossError
from kdlight.objectives import (
    OBJECTIVES,
    CrossEntropy,
    LossInputs,
    Objective,
    ReverseKL,
    SkewReverseKL,
    Weighted,
    build_objective,
)
from kdlight.reduce import Chunking
from kdlight.sources import Projected
from kdlight.testing import Sample
from tests.objectives.features.samples import FEATURES
from tests.objectives.test_laws import ELSEWHERE, SETTINGS
from tests.support import runs

CASES = [
    (name, options)
    for name in sorted(set(OBJECTIVES) - ELSEWHERE - set(FEATURES))
    for options in ({}, *SETTINGS.get(name, []))
]
SIDES = {
    "teacher": ([], [0, 3]),
    "student": ([0, 3], []),
    "both, of different tokens": ([0], [3]),
}
CHUNKS = Chunking(tokens=3, block=2)


def forbid(head: nn.Linear, columns: list[int]) -> nn.Linear:
    with torch.no_grad():
        head.bias[columns] = -math.inf
    return head


def made(name: str, options: dict[str, Any]) -> Objective:
    torch.manual_seed(0)
    return build_objective(name, **options).double()


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}{o or ''}" for n, o in CASES])
@pytest.mark.parametrize("side", SIDES)
def test_gradients_are_finite_and_the_same_in_chunks_and_from_hidden_states(
    name: str, options: dict[str, Any], side: str
) -> None:
    sample = Sample.draw()
    ours, theirs = SIDES[side]
    states = [sample.randn(*sample.labels.shape, 3).requires_grad_() for _ in range(2)]
    torch.manual_seed(1)
    heads = [forbid(nn.Linear(3, 7).double(), columns) for columns in (ours, theirs)]
    heads[1].requires_grad_(False)
    leaves = (states[0], heads[0].weight)
    teacher = states[1].detach()
    dense = {"student": heads[0](states[0]), "teacher": heads[1](teacher)}
    lazy = {"student": Projected(states[0], heads[0]), "teacher": Projected(teacher, heads[1])}
    results = []
    for sources, chunked in ((dense, False), (dense, CHUNKS), (lazy, CHUNKS)):
        loss = made(name, options)(sample.inputs(**sources, mask=sample.mask, chunked=chunked))
        slopes = torch.autograd.grad(loss.total, leaves, retain_graph=True)
        assert all(slope.isfinite().all() for slope in slopes)
        assert not loss.total.isnan()
        results.append((loss.total.detach(), *slopes))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def gradient(objective: Objective, inputs: LossInputs, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(objective(inputs).total, leaf)[0]


def test_a_stage_without_the_divergence_has_nothing_infinite() -> None:
    """As the third of M1, whose teacher may forbid what it likes."""
    sample = Sample.draw()
    teacher = sample.teacher.clone()
    teacher[..., 0] = -math.inf
    mix = Weighted({"kd": ReverseKL(), "ce": CrossEntropy()}, weights={"kd": 0.0})
    inputs = sample.inputs(teacher=teacher)
    assert mix(inputs).total.isfinite()
    expected = gradient(CrossEntropy(), inputs, sample.student)
    torch.testing.assert_close(gradient(mix, inputs, sample.student), expected)
    mix.weights["kd"] = 1.0
    assert mix(inputs).total == math.inf
    assert gradient(mix, inputs, sample.student).isfinite().all()


class Forbidding(nn.Module):
    """A teacher that never says the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(runs.WIDTH, runs.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        return torch.cat([torch.full_like(logits[:, :1], -math.inf), logits[:, 1:]], 1)


def test_a_fit_stops_where_the_loss_is_infinite_and_a_bounded_divergence_goes_on(
    tmp_path: Path,
) -> None:
    def fit(objective: Objective) -> DistillationModule:
        student = SingleInput(nn.Linear(runs.WIDTH, runs.CLASSES))
        module = DistillationModule(student, objective, SingleInput(Forbidding()))
        runs.trainer(tmp_path).fit(module, runs.loader())
        return module

    with pytest.raises(NonFiniteLossError, match=r"-inf for the student or the teacher only"):
        fit(ReverseKL())
    module = fit(SkewReverseKL())
    assert all(p.isfinite().all() for p in module.student.parameters())
