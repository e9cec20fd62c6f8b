"""The base class of objectives: what is missing, vocabularies, and networks of the objective."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdlight.objectives import (
    DPO,
    OBJECTIVES,
    DecoupledKL,
    ForwardKL,
    LearnableTemperature,
    Loss,
    LossInputs,
    Objective,
    ReverseKL,
    SpanKL,
    Weighted,
    build_objective,
)
from tests.objectives.features.samples import FEATURES

# tests/objectives/features/test_feature_laws.py has the same tests of the others
ON_LOGITS = [name for name in OBJECTIVES if name not in FEATURES]


class Projector(Objective):
    """An objective whose network depends on the sizes of student and teacher."""

    def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
        assert isinstance(student, nn.Linear)
        assert isinstance(teacher, nn.Linear)
        self.network = nn.Linear(student.out_features, teacher.out_features)

    def forward(self, inputs: LossInputs) -> Loss:
        return Loss(self.network(inputs.student.logits()).sum(), torch.tensor(1))


def test_what_is_missing_is_named(student: Tensor) -> None:
    with pytest.raises(ValueError, match="DecoupledKL needs labels"):
        build_objective("decoupled_kl")(LossInputs(student, student))
    with pytest.raises(ValueError, match="ReverseKL needs a teacher"):
        ReverseKL()(LossInputs(student))
    with pytest.raises(ValueError, match="LearnableTemperature needs labels"):
        LearnableTemperature(DecoupledKL())(LossInputs(student, student))


def test_the_error_names_what_provides_the_field(student: Tensor) -> None:
    labels = torch.zeros(2, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r"DPO needs `rejected`.*TracesDataModule with kind='pai"):
        DPO()(LossInputs(student, student, labels))
    with pytest.raises(ValueError, match="SpanKL needs `span_ids`.*set spans="):
        SpanKL()(LossInputs(student, student))


def test_a_field_without_advice_is_named(student: Tensor) -> None:
    class WithIndex(Projector):
        needs = frozenset({"index"})

    with pytest.raises(ValueError, match="WithIndex needs `index`, but the inputs have none"):
        WithIndex().check(LossInputs(student))


def test_vocabularies_must_be_one(inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    narrow = LossInputs(inputs.student.logits()[..., :5], inputs.teacher)
    for objective in (ForwardKL(), Weighted({"kd": ForwardKL()})):
        with pytest.raises(ValueError, match="vocabularies differ: 7 and 5 entries"):
            objective(narrow)


def test_networks_of_all_terms_get_their_sizes() -> None:
    mixture = Weighted({"kd": ForwardKL(), "inner": Weighted({"projector": Projector()})})
    mixture.bind(nn.Linear(2, 3), nn.Linear(2, 4))
    shapes = {name: parameter.shape for name, parameter in mixture.named_parameters()}
    assert shapes["terms.inner.terms.projector.network.weight"] == (4, 3)


def test_an_objective_without_forward_names_its_class(inputs: LossInputs) -> None:
    class Nothing(Objective):
        pass

    with pytest.raises(NotImplementedError, match="Nothing does not define forward"):
        Nothing()(inputs)


@pytest.mark.parametrize("name", ON_LOGITS)
def test_one_logit_is_refused_where_it_would_be_a_probability(name: str) -> None:
    one, two = torch.randn(2, 3, 1), torch.randn(2, 3, 2)
    objective = build_objective(name)
    if not objective.uses_probabilities:
        assert objective(LossInputs(one, one + 1)).mean() == 1
        return
    rest = {"rejected": torch.tensor([False, True]), "labels": torch.zeros(2, 3, dtype=torch.long)}
    with pytest.raises(ValueError, match=r"the student has one logit, \(2, 3, 1\).*MultiLabel"):
        objective(LossInputs(one, two, **rest))  # type: ignore[arg-type]
    if "teacher" in objective.needs:
        with pytest.raises(ValueError, match=r"the teacher has one logit, \(2, 3, 1\)"):
            objective(LossInputs(two, one, **rest))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ON_LOGITS)
def test_a_batch_without_samples_is_zero_with_a_graph(name: str) -> None:
    student = torch.zeros(0, 3, 5, requires_grad=True)
    labels, rejected = torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, dtype=torch.bool)
    teacher = torch.zeros(0, 3, 5)
    loss = build_objective(name)(LossInputs(student, teacher, labels, rejected=rejected))
    assert loss.mean() == loss.count == 0
    assert torch.autograd.grad(loss.total, student)[0].shape == student.shape
