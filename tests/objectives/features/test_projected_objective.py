"""Projectors of an objective: made once, trained and saved with it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from kdlight.features import LayerMapping
from kdlight.objectives import HiddenStates, InterChannelCorrelation
from kdlight.objectives.features.projected_objective import ProjectedObjective
from tests.objectives.features.samples import feature_inputs, randn

OBJECTIVES = [HiddenStates, InterChannelCorrelation]


def networks() -> tuple[nn.Module, nn.Module]:
    widths = {"layer": 3, "same": 5}, {"teacher_layer": 5, "same": 5}
    student, teacher = (
        nn.ModuleDict({name: nn.Linear(2, width) for name, width in side.items()})
        for side in widths
    )
    return student, teacher


def bound(kind: Any, **options: Any) -> Any:
    objective = kind({"layer": "teacher_layer"}, **options)
    objective.bind(*networks())
    return objective


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_each_pair_has_a_projector_of_its_size(kind: Any) -> None:
    objective = kind({"layer": "teacher_layer", "same": "same"})
    assert not list(objective.parameters())
    objective.bind(*networks())
    assert [str(each) for each in objective.projectors] == [
        "Linear(in_features=3, out_features=5, bias=False)",
        "Identity()",
    ]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_second_bind_keeps_the_projectors(kind: Any) -> None:
    objective = bound(kind)
    (weight,) = objective.parameters()
    before = weight.detach().clone()
    objective.bind(*networks())
    assert list(objective.parameters()) == [weight]
    assert torch.equal(weight, before)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_projectors_are_saved_and_copied(kind: Any) -> None:
    objective, other = bound(kind), bound(kind)
    inputs = feature_inputs(randn(4, 3, 6).float(), randn(4, 5, 6, seed=1).float())
    objective, other = (self_channels(each) for each in (objective, other))
    assert objective(inputs).total != other(inputs).total
    other.load_state_dict(objective.state_dict())
    for again in (other, copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
        assert again(inputs).total == objective(inputs).total


def self_channels(objective: Any) -> Any:
    if isinstance(objective, HiddenStates):
        objective.channel_dim = 1
    return objective


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_projectors_get_a_gradient(kind: Any) -> None:
    objective = self_channels(bound(kind))
    student = randn(4, 3, 6).float().requires_grad_()
    objective(feature_inputs(student, randn(4, 5, 6, seed=1).float())).total.backward()
    assert objective.projectors[0].weight.grad.abs().max() > 1e-6
    assert student.grad is not None


def test_a_mapping_of_layers_is_projected_pair_by_pair() -> None:
    objective = ProjectedObjective(LayerMapping("*"))
    student, teacher = (
        nn.Sequential(*(nn.Linear(width, width) for width in widths))
        for widths in ((2, 3), (2, 4, 3, 5))
    )
    objective.bind(student, teacher)
    shapes = [p.shape for p in objective.parameters()]
    assert (objective.paths, shapes) == ({"0": "1", "1": "3"}, [(4, 2), (5, 3)])


def test_sizes_may_come_from_a_config() -> None:
    sizes: Any = [3, 5]
    objective = ProjectedObjective({"": ""}, sizes=sizes)
    objective.bind(nn.ReLU(), nn.ReLU())
    assert objective.sizes == (3, 5)
    assert [p.shape for p in objective.parameters()] == [(5, 3)]
