"""DistillationMetrics: equal to definitions and to torchmetrics, in any batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassCalibrationError

from kdlight import Loss, LossInputs, Projected
from kdlight.metrics import (
    AdaptiveCalibrationError,
    BrierScore,
    DistillationMetrics,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
)
from kdlight.metrics import distillation as module
from tests.support.classifier import classifier, measure

V = 6


@pytest.fixture
def logits() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student = 2 * torch.randn(5, 7, V, generator=generator)
    teacher = 2 * torch.randn(5, 7, V, generator=generator)
    labels = torch.randint(V, (5, 7), generator=generator)
    labels[0] = -100
    labels[3, 2:] = -100
    return student, teacher, labels


def measured(batches: list[LossInputs], temperature: float = 1.0) -> dict[str, float]:
    metrics = DistillationMetrics(temperature)
    for inputs in batches:
        metrics.update(inputs)
    return {name: value.item() for name, value in metrics.compute().items()}


def test_against_definitions(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    valid = labels != -100
    values = measured([LossInputs(student, teacher, labels, valid)], temperature=2.0)
    q, p = (x[valid].double() for x in (student, teacher))
    q2, p2 = (q / 2).softmax(-1), (p / 2).softmax(-1)
    likelihood = q.softmax(-1).gather(-1, labels[valid].unsqueeze(-1))
    expected = {
        "forward_kl": (p2 * (p2 / q2).log()).sum(-1).mean(),
        "reverse_kl": (q2 * (q2 / p2).log()).sum(-1).mean(),
        "top1_agreement": (q.argmax(-1) == p.argmax(-1)).double().mean(),
        "perplexity": (-likelihood.log().mean()).exp(),
        "accuracy": (q.argmax(-1) == labels[valid]).double().mean(),
        "teacher_accuracy": (p.argmax(-1) == labels[valid]).double().mean(),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value.item(), rel=1e-5), name


def test_ece_is_that_of_torchmetrics(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    valid = labels != -100
    values = measured([LossInputs(student, teacher, labels, valid)])
    for name, source in (("ece", student), ("teacher_ece", teacher)):
        theirs = MulticlassCalibrationError(V, n_bins=15, norm="l1")
        theirs.update(source[valid].softmax(-1), labels[valid])
        assert values[name] == pytest.approx(theirs.compute().item(), rel=1e-5)  # no edge is hit


def test_the_split_into_batches_and_rows_changes_nothing(
    logits: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher, labels = logits
    whole = measured([LossInputs(student, teacher, labels, labels != -100)])
    monkeypatch.setattr(module, "ROWS", 3)
    parts = zip(student, teacher, labels, strict=True)
    split = measured([LossInputs(s, t, y, y != -100) for s, t, y in parts])
    assert split == pytest.approx(whole, rel=1e-6)


def test_the_loss_is_weighted_by_its_units() -> None:
    metrics = DistillationMetrics()
    inputs = LossInputs(torch.zeros(1, V))
    metrics.update(inputs, Loss(torch.tensor(6.0), torch.tensor(3)))
    metrics.update(inputs, Loss(torch.tensor(10.0), torch.tensor(1)))
    assert metrics.compute()["loss"].item() == 4.0


def test_invalid_positions_do_not_leak(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    valid = labels != -100
    clean = measured([LossInputs(student, teacher, labels, valid)])
    dirty = student.masked_fill(~valid.unsqueeze(-1), float("nan"))
    assert measured([LossInputs(dirty, teacher, labels, valid)]) == clean


def test_nan_is_not_hidden() -> None:
    student = torch.full((2, V), float("nan"))
    assert torch.isnan(
        torch.tensor(measured([LossInputs(student, torch.zeros(2, V))])["forward_kl"])
    )


def test_hidden_states_are_projected_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 4)
    head = nn.Linear(3, V)
    seen: list[int] = []
    head.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    hidden = torch.randn(2, 5, 3)
    measured([LossInputs(Projected(hidden, head), torch.zeros(2, 5, V))])
    assert seen == [4, 4, 2]


def test_without_teacher_or_labels_some_metrics_are_left_out() -> None:
    x = torch.randn(4, V)
    assert set(measured([LossInputs(x, x)])) == {"forward_kl", "reverse_kl", "top1_agreement"}
    alone = measured([LossInputs(x, labels=torch.tensor([0, 1, 2, 3]))])
    assert set(alone) == {"nll", "perplexity", "accuracy", "brier", "ece", "mce", "ace"}


def test_all_are_measured_for_student_and_teacher(generator: torch.Generator) -> None:
    (student, labels), (teacher, _) = (classifier(60, generator, scale=s) for s in (3.0, 1.0))
    metrics = DistillationMetrics()
    for rows in torch.arange(60).split(25):
        metrics.update(LossInputs(student[rows], teacher[rows], labels[rows]))
    values = metrics.compute()
    for prefix, logits in (("", student), ("teacher_", teacher)):
        for name, metric in (("brier", BrierScore()), ("nll", NegativeLogLikelihood())):
            metric.update(logits, labels)
            assert values[prefix + name] == pytest.approx(metric.compute().item(), rel=1e-5)
        for name, metric in (
            ("ece", ExpectedCalibrationError()),
            ("mce", MaximumCalibrationError()),
            ("ace", AdaptiveCalibrationError()),
        ):
            assert values[prefix + name] == pytest.approx(measure(metric, logits, labels), rel=1e-5)
    assert values["perplexity"] == pytest.approx(values["nll"].exp().item(), rel=1e-6)


def test_temperature_is_checked() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0 and finite, got 0"):
        DistillationMetrics(0)


def test_a_teacher_with_another_vocabulary_has_its_own_metrics_only(
    logits: tuple[Tensor, Tensor, Tensor],
) -> None:
    student, teacher, labels = logits
    values = measured([LossInputs(student[1:3], teacher[1:3, :, :5], labels[1:3] % 5)])
    assert "forward_kl" not in values
    assert "teacher_nll" in values


def test_a_teacher_with_positions_of_its_own_is_left_out(
    logits: tuple[Tensor, Tensor, Tensor],
) -> None:
    student, teacher, labels = logits
    own = torch.ones(5, 7, dtype=torch.bool)
    values = measured([LossInputs(student, teacher, labels, labels != -100, teacher_mask=own)])
    assert set(values) == {"nll", "perplexity", "accuracy", "brier", "ece", "mce", "ace"}


def test_reliability_diagrams_exist_for_networks_with_labels(
    logits: tuple[Tensor, Tensor, Tensor],
) -> None:
    student, teacher, labels = logits
    metrics = DistillationMetrics()
    assert metrics.reliability() == {}
    metrics.update(LossInputs(student, teacher, labels, labels != -100))
    curves = metrics.reliability()
    assert set(curves) == {"student", "teacher"}
    assert sum(curves["student"]["share"]) == pytest.approx(1)
    metrics.reset()
    assert metrics.reliability() == metrics.compute() == {}


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("rows", [3, 256])
def test_a_regression_has_its_own_metrics(
    outputs: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    generator = torch.Generator().manual_seed(0)
    student, teacher, labels = torch.randn(3, 10, outputs, generator=generator).unbind()
    values = measured(
        [LossInputs(student[:4], teacher[:4], labels[:4])]
        + [LossInputs(student[4:], teacher[4:], labels[4:])]
    )
    mse, mae = nn.functional.mse_loss, nn.functional.l1_loss
    assert values == pytest.approx(
        {
            "mse": mse(student, labels).item(),
            "mae": mae(student, labels).item(),
            "teacher_mse": mse(teacher, labels).item(),
            "teacher_mae": mae(teacher, labels).item(),
            "mse_to_teacher": mse(student, teacher).item(),
        }
    )


def test_one_output_without_labels_is_compared_with_the_teacher() -> None:
    inputs = LossInputs(torch.zeros(3, 1), torch.full((3, 1), 2.0))
    assert measured([inputs]) == {"mse_to_teacher": 4.0}


def test_labels_of_a_regression_have_the_shape_of_the_outputs() -> None:
    with pytest.raises(ValueError, match=r"shape of the outputs, \(\.\.\., 2\), got \(3,\)"):
        measured([LossInputs(torch.zeros(3, 2), labels=torch.zeros(3))])
