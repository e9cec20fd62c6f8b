"""Metrics: equal to slow definitions and to torchmetrics, in any batches, in constant memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassCalibrationError

from kdlight import Loss, LossInputs, Projected
from kdlight.metrics import DistillationMetrics, ExpectedCalibrationError
from kdlight.metrics import distillation as room

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


def measured(steps: list[LossInputs], temperature: float = 1.0) -> dict[str, float]:
    metrics = DistillationMetrics(temperature)
    for step in steps:
        metrics.update(step)
    return {name: value.item() for name, value in metrics.compute().items()}


def test_against_definitions(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    keep = labels != -100
    values = measured([LossInputs(student, teacher, labels, keep)], temperature=2.0)
    q, p = (x[keep].double() for x in (student, teacher))
    q2, p2 = (q / 2).softmax(-1), (p / 2).softmax(-1)
    likelihood = q.softmax(-1).gather(-1, labels[keep].unsqueeze(-1))
    expected = {
        "forward_kl": (p2 * (p2 / q2).log()).sum(-1).mean(),
        "reverse_kl": (q2 * (q2 / p2).log()).sum(-1).mean(),
        "top1_agreement": (q.argmax(-1) == p.argmax(-1)).double().mean(),
        "perplexity": (-likelihood.log().mean()).exp(),
        "accuracy": (q.argmax(-1) == labels[keep]).double().mean(),
        "teacher_accuracy": (p.argmax(-1) == labels[keep]).double().mean(),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value.item(), rel=1e-5), name


def test_ece_is_that_of_torchmetrics(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    keep = labels != -100
    values = measured([LossInputs(student, teacher, labels, keep)])
    for name, source in (("ece", student), ("teacher_ece", teacher)):
        theirs = MulticlassCalibrationError(V, n_bins=15, norm="l1")
        theirs.update(source[keep].softmax(-1), labels[keep])
        assert values[name] == pytest.approx(theirs.compute().item(), rel=1e-5)


def test_the_split_into_batches_and_rows_changes_nothing(
    logits: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher, labels = logits
    whole = measured([LossInputs(student, teacher, labels, labels != -100)])
    monkeypatch.setattr(room, "ROWS", 3)
    parts = zip(student, teacher, labels, strict=True)
    split = measured([LossInputs(s, t, y, y != -100) for s, t, y in parts])
    assert split == pytest.approx(whole, rel=1e-6)


def test_the_loss_is_weighted_by_its_units() -> None:
    metrics = DistillationMetrics()
    step = LossInputs(torch.zeros(1, V))
    metrics.update(step, Loss(torch.tensor(6.0), torch.tensor(3)))
    metrics.update(step, Loss(torch.tensor(10.0), torch.tensor(1)))
    assert metrics.compute()["loss"].item() == 4.0


def test_what_is_ignored_does_not_leak(logits: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, labels = logits
    keep = labels != -100
    clean = measured([LossInputs(student, teacher, labels, keep)])
    dirty = student.masked_fill(~keep.unsqueeze(-1), float("nan"))
    assert measured([LossInputs(dirty, teacher, labels, keep)]) == clean


def test_a_broken_student_is_not_hidden() -> None:
    broken = torch.full((2, V), float("nan"))
    assert torch.isnan(
        torch.tensor(measured([LossInputs(broken, torch.zeros(2, V))])["forward_kl"])
    )


def test_hidden_states_are_projected_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROWS", 4)
    head = nn.Linear(3, V)
    seen: list[int] = []
    head.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    hidden = torch.randn(2, 5, 3)
    measured([LossInputs(Projected(hidden, head), torch.zeros(2, 5, V))])
    assert seen == [4, 4, 2]


def test_state_is_of_constant_size() -> None:
    metric = ExpectedCalibrationError(bins=10)
    for _ in range(5):
        metric.update(torch.rand(100), torch.rand(100) > 0.5)
    assert len(metric.metric_state) == 3
    # a confidence of exactly 1 has a bin of its own
    assert {metric.count.numel(), metric.confidence.numel(), metric.correct.numel()} == {11}


def test_without_teacher_or_labels_there_is_less_to_say() -> None:
    x = torch.randn(4, V)
    assert set(measured([LossInputs(x, x)])) == {"forward_kl", "reverse_kl", "top1_agreement"}
    alone = measured([LossInputs(x, labels=torch.tensor([0, 1, 2, 3]))])
    assert set(alone) == {"nll", "perplexity", "accuracy", "brier", "ece", "mce", "ace"}


@pytest.mark.parametrize("bins", [0, -1])
def test_bins_are_checked(bins: int) -> None:
    with pytest.raises(ValueError, match=f"bins must be at least 1, got {bins}"):
        ExpectedCalibrationError(bins)


def test_temperature_is_checked() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        DistillationMetrics(0)
