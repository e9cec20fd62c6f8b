"""Decoupled KL."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.losses.test_loss_edges import all_close, evaluate, logits, put
from tests.losses.test_losses import LABELS as BATCH_LABELS
from tests.losses.test_losses import close


def test_decoupled_kl_puts_forward_kl_together_again(student: Tensor, teacher: Tensor) -> None:
    labels = BATCH_LABELS.clamp(min=0)
    weights = {"target_weight": 1.0, "non_target_weight": 0.0}
    target = losses.decoupled_kl(student, teacher, labels, **weights)
    weights = {"target_weight": 0.0, "non_target_weight": 1.0}
    among = losses.decoupled_kl(student, teacher, labels, **weights)
    rest = 1 - teacher.softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    close(target + rest * among, losses.forward_kl(student, teacher), 1e-12)


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("sides", ["student", "teacher", "both"])
def test_a_label_that_is_the_only_possible_token_has_finite_gradients(
    sides: str, lowest: float
) -> None:
    student, teacher = logits()
    if sides != "teacher":
        student = put(student, lowest, 0, 1, 3, 4, 5)
    if sides != "student":
        teacher = put(teacher, lowest, 0, 1, 3, 4, 5)
    labels = torch.tensor([2, 2, -100])
    values, *slopes = evaluate("decoupled_kl", student, teacher, labels)
    assert all(slope.isfinite().all() for slope in slopes)
    if sides == "student":  # where the teacher has other tokens
        assert values.tolist() == [math.inf, math.inf, 0.0]
        return
    # a sure teacher says nothing about other tokens: what is left is the cross-entropy of the label
    all_close([values], [losses.cross_entropy(student, labels)], 1e-12)


def test_decoupled_kl_of_two_classes_has_only_the_targets_half() -> None:
    student, teacher = (each[:, :2] for each in logits())
    labels = torch.tensor([0, 1, 1])
    full = evaluate("decoupled_kl", student, teacher, labels)
    all_close(full, evaluate("forward_kl", student, teacher), 1e-12)
    weights = {"target_weight": 0.0, "non_target_weight": 1.0}
    for result in evaluate("decoupled_kl", student, teacher, labels, **weights):
        assert torch.equal(result, torch.zeros_like(result))


def test_decoupled_kl_keeps_its_digits_where_the_teacher_is_sure() -> None:
    # 1 - p_y is e^-40, which is 0 beside 1 even in float64.
    student = torch.tensor([[40.0, 0.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[40.0, 1.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0])
    values, slope, _ = evaluate("decoupled_kl", student, teacher, labels, non_target_weight=1.0)
    q, p = (each[:, 1:].softmax(-1) for each in (student, teacher))
    all_close([values, slope[:, 1:]], [(p * (p / q).log()).sum(-1), q - p], 1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_decoupled_kl_with_a_target_that_one_side_forbids(label: int) -> None:
    student, teacher = logits()
    labels = torch.full((3,), label)
    barred = put(student, -math.inf, label)
    values, *slopes = evaluate("decoupled_kl", barred, teacher, labels)
    assert (values == math.inf).all()
    assert all(slope.isfinite().all() for slope in slopes)
    results = evaluate("decoupled_kl", student, put(teacher, -math.inf, label), labels)
    assert all(result.isfinite().all() for result in results)
