"""TGeoKD: its two terms, where gradients go, and the means of the classes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kdlight.objectives import LossInputs, TGeoKD
from kdlight.objectives.fusion.geometry import class_features


def rows(count: int = 12, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, count, classes, generator=generator, dtype=torch.float64)
    return student.requires_grad_(), teacher, torch.arange(count) % classes


@pytest.mark.parametrize("classes", [4, None], ids=["vectors", "scalars"])
def test_the_loss_is_a_mixture_whose_ratio_is_a_constant(classes: int | None):
    student, teacher, labels = rows()
    objective = TGeoKD(temperature=2.0, classes=classes).double()
    loss = objective(LossInputs(student, teacher, labels))
    p, log_q = (teacher / 2).softmax(-1), (student / 2).log_softmax(-1)
    kd = 4 * (p * (p.log() - log_q)).sum(-1)
    ce = functional.cross_entropy(student, labels, reduction="none")
    ratio = objective.network(objective.features(student, teacher, labels))
    expected = (ratio * kd + (1 - ratio) * ce).sum()
    torch.testing.assert_close(loss.total, expected)
    for name, value in {"ratio": ratio, "kd": kd, "ce": ce}.items():
        torch.testing.assert_close(loss.parts[name], value.detach().sum())
    torch.testing.assert_close(
        torch.autograd.grad(loss.total, student), torch.autograd.grad(expected, student)
    )


def test_the_advantage_is_the_slope_in_the_ratio():
    student, teacher, labels = rows()
    objective = TGeoKD(classes=4).double()
    kd, ce = objective.terms(student, teacher, labels)
    torch.testing.assert_close(objective.advantage(student, teacher, labels), kd - ce)


def test_means_are_those_of_all_samples_however_they_come():
    _, teacher, labels = rows()
    labels[3] = -100
    objective = TGeoKD(classes=4).double()
    for part in (slice(0, 5), slice(5, 12)):
        features = objective.features(teacher[part], teacher[part], labels[part])
        objective.add_class_sums(*objective.class_sums(features))
    p = teacher.softmax(-1)
    expected = torch.stack([p[labels == each].mean(0) for each in range(4)])
    torch.testing.assert_close(objective.class_means, expected)
    assert objective.class_counts.tolist() == [3, 3, 3, 2]


def test_a_class_that_was_not_seen_has_the_distribution_of_the_row():
    student, teacher, labels = rows()
    objective = TGeoKD(classes=4).double()
    objective.add_class_sums(
        torch.eye(4, dtype=torch.float64) * torch.tensor([0, 0, 5, 0]), torch.tensor([0, 0, 5, 0])
    )
    means = teacher.softmax(-1).clone()
    means[labels == 2] = torch.eye(4, dtype=torch.float64)[2]
    torch.testing.assert_close(
        objective.features(student, teacher, labels),
        class_features(student, teacher, labels, means),
    )


def test_counts_are_kept_in_half_precision():
    objective = TGeoKD(classes=2).to(torch.bfloat16)
    objective.add_class_sums(torch.zeros(2, 2), torch.tensor([257, 0]))
    assert objective.class_counts.tolist() == [257, 0]


def test_an_impossible_token_gives_a_finite_gradient():
    student = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, -torch.inf, 0.0]])
    loss = TGeoKD()(LossInputs(student, teacher, torch.tensor([2])))
    loss.total.backward()
    assert loss.total.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_wrong_arguments_and_inputs_are_refused():
    with pytest.raises(ValueError, match="temperature must be above 0"):
        TGeoKD(temperature=0.0)
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        TGeoKD(classes=1)
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="classes is 5, but the logits have 3 columns"):
        TGeoKD(classes=5)(LossInputs(x, x, torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="TGeoKD needs labels, but the inputs have none"):
        TGeoKD()(LossInputs(x, x))
    with pytest.raises(ValueError, match="TGeoKD needs labels that are classes"):
        TGeoKD()(LossInputs(x, x, torch.zeros(2, 3)))
