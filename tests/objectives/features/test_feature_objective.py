"""Pairs of paths, what is refused, and sums with objectives on logits."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.features import LayerMapping
from kdlight.objectives import (
    OBJECTIVES,
    CrossEntropy,
    FeatureObjective,
    ForwardKL,
    HiddenStates,
    LinearCKA,
    LossInputs,
    SimilarityPreserving,
    Weighted,
)
from kdlight.objectives.features.feature_objective import feature_paths
from tests.objectives.features.samples import FEATURES, PAIRS, feature_inputs, randn


class Distance(FeatureObjective):
    """The simplest subclass."""

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        return (pair + 1) * (student - teacher).square().mean(-1).sum()


def layers(count: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(count)))


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_pairs_are_checked(name: str) -> None:
    kind: Any = OBJECTIVES[name]
    with pytest.raises(ValueError, match="pairs is empty; give at least one"):
        kind({})
    for wrong in (["a"], "a", {"a": 3}, {3: "a"}, None):
        with pytest.raises(TypeError, match="pairs must map paths of the student to paths"):
            kind(wrong)


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_a_missing_feature_is_named(name: str) -> None:
    objective: Any = OBJECTIVES[name](PAIRS)  # type: ignore[call-arg]
    path = "layer.q_proj" if name == "attention_relation" else "layer"
    x = torch.zeros(2, 5)
    with pytest.raises(ValueError, match=f"no feature '{path}' of the student.*student_features="):
        objective(LossInputs(x, x))
    given = {f"{path}": randn(2, 3, 12)}
    with pytest.raises(ValueError, match=f"no feature 'teacher_{path}' of the teacher"):
        objective(LossInputs(x, x, student_features=given, teacher_features={"other": x}))
    with pytest.raises(ValueError, match="needs a teacher, but the inputs have none"):
        objective(LossInputs(x))


def test_samples_of_another_number_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'layer' \(3, 4\) and 'teacher_layer' \(2, 4\) are of di"
    ):
        Distance(PAIRS)(feature_inputs(randn(3, 4), randn(2, 4)))


def test_a_mask_of_other_positions_is_refused() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"mask must have the positions of the logits, \(2,\), got"
    ):
        Distance(PAIRS)(feature_inputs(randn(2, 4), randn(2, 4), mask=mask))


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_()
    Distance(PAIRS)(feature_inputs(student, teacher)).total.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_a_subclass_without_a_loss_names_its_class() -> None:
    with pytest.raises(NotImplementedError, match=r"FeatureObjective does not define pair_loss"):
        FeatureObjective(PAIRS)(feature_inputs(randn(3, 4), randn(3, 4)))


def test_pair_losses_are_averaged_in_the_order_of_pairs() -> None:
    x = torch.zeros(2, 3)
    student = {"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)}
    teacher = {"x": torch.ones(2, 4), "y": torch.full((2, 4), 3.0)}
    inputs = LossInputs(x, x, student_features=student, teacher_features=teacher)
    loss = Distance({"a": "x", "b": "y"})(inputs)
    assert loss.total == (1 * 2 * 1 + 2 * 2 * 9) / 2
    assert (loss.count, loss.parts) == (2, {})


def test_paths_are_looked_up_by_bind() -> None:
    objective = Distance({"0": "2"})
    objective.bind(layers(1), layers(3))
    with pytest.raises(ValueError, match="no module of Sequential is called '2'"):
        objective.bind(layers(1), layers(2))
    with pytest.raises(ValueError, match="no module of Sequential is called '0'"):
        objective.bind(nn.Sequential(), layers(3))
    with pytest.raises(ValueError, match="Distance compares features.*kdlight.FrozenTeacher"):
        objective.bind(layers(1), None)


def test_a_mapping_of_layers_becomes_pairs_once() -> None:
    objective = Distance(LayerMapping("*"))
    with pytest.raises(ValueError, match=r"not known before bind\(student, teacher\)"):
        objective(feature_inputs(randn(2, 4), randn(2, 4)))
    objective.bind(layers(2), layers(4))
    assert objective.paths == {"0": "1", "1": "3"}
    for again in (copy.deepcopy(objective), pickle.loads(pickle.dumps(objective))):
        again.bind(layers(2), layers(4))
        assert again.paths == objective.paths


def test_the_paths_of_all_terms_are_collected_once() -> None:
    terms = {
        "kd": ForwardKL(),
        "inner": Weighted({"one": HiddenStates({"a": "x", "b": "y"}), "two": Distance({"a": "z"})}),
        "cka": LinearCKA({"c": "x"}),
    }
    student, teacher = feature_paths(Weighted(terms))
    assert (list(student), list(teacher)) == (["a", "b", "c"], ["x", "y", "z"])
    assert feature_paths(ForwardKL()) == ({}, {})


def test_a_mixture_binds_what_is_in_it() -> None:
    mixture = Weighted({"kd": ForwardKL(), "hidden": HiddenStates({"": ""})})
    mixture.bind(nn.Linear(2, 3), nn.Linear(2, 5))
    assert [p.shape for p in mixture.parameters()] == [(5, 3)]


@pytest.mark.parametrize("features_first", [False, True])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_a_mixture_is_the_sum_of_its_terms(shape: tuple[int, ...], features_first: bool) -> None:
    logits, hidden = randn(*shape, 7).requires_grad_(), randn(*shape, 4, seed=1).requires_grad_()
    labels = torch.arange(6).view(shape)
    inputs = feature_inputs(
        hidden, randn(*shape, 4, seed=2), logits=logits, labels=labels, mask=labels != 2
    )
    object.__setattr__(inputs, "teacher", LossInputs(randn(*shape, 7, seed=3)).student)
    terms = {
        "kd": ForwardKL(temperature=2.0),
        "ce": CrossEntropy(),
        "hidden": HiddenStates(PAIRS),
        "similar": SimilarityPreserving(PAIRS),
    }
    names = list(reversed(terms) if features_first else terms)
    weights = {"kd": 0.5, "ce": 0.1, "hidden": 3.0, "similar": 1000.0}
    mixed = Weighted({name: terms[name] for name in names}, weights=weights)(inputs)
    separate = {name: terms[name](inputs) for name in names}
    assert all(loss.count == mixed.count == 5 for loss in separate.values())
    expected = torch.stack([weights[name] * loss.total for name, loss in separate.items()]).sum()
    torch.testing.assert_close(mixed.total, expected, rtol=1e-12, atol=0)
    assert set(mixed.parts) == set(terms)
    for name, part in mixed.parts.items():
        torch.testing.assert_close(part, separate[name].total.detach(), rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(total, (logits, hidden)) for total in (mixed.total, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


def test_one_logit_is_no_obstacle() -> None:
    assert not FeatureObjective.uses_probabilities
    inputs = feature_inputs(torch.ones(3, 4), torch.zeros(3, 4), logits=torch.zeros(3, 1))
    assert HiddenStates(PAIRS)(inputs).mean() == 1


def test_layers_that_a_rule_chose_are_those_of_one_pair_of_networks() -> None:
    """Otherwise the second module would train other layers than its rule says."""
    objective = HiddenStates(LayerMapping("*"))
    objective.bind(layers(2), layers(4))
    assert objective.paths == {"0": "1", "1": "3"}
    objective.bind(layers(2), layers(4))  # the mixin's `distill` may be called again
    with pytest.raises(ValueError, match="used for networks with other layers than before"):
        objective.bind(layers(4), layers(4))
