"""Forward, reverse and symmetric KL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdlight import losses
from tests.losses.test_loss_edges import all_close, evaluate, logits, put
from tests.losses.test_losses import close


def test_forward_kl_has_the_gradient_q_minus_p(student: Tensor, teacher: Tensor) -> None:
    (slope,) = torch.autograd.grad(losses.forward_kl(student, teacher).sum(), student)
    close(slope, (student.softmax(-1) - teacher.softmax(-1)).detach(), 1e-12)


def test_forward_kl_keeps_its_gradient_where_it_is_infinite() -> None:
    student, teacher = logits()
    student = put(student, -math.inf, 0)
    values, slope, _ = evaluate("forward_kl", student, teacher)
    assert (values == math.inf).all()
    all_close([slope], [student.softmax(-1) - teacher.softmax(-1)], 1e-12)


def test_reverse_kl_leaves_the_infinite_logs_out_of_its_gradient() -> None:
    student, teacher = logits()
    teacher = put(teacher, -math.inf, 0)
    values, slope, other = evaluate("reverse_kl", student, teacher)
    assert (values == math.inf).all()
    q, p = student.softmax(-1), teacher.softmax(-1)
    log_ratio = put((q / p).log(), 0.0, 0)
    expected = q * (log_ratio - (q * log_ratio).sum(-1, keepdim=True))
    all_close([slope, other], [expected, p - q], 1e-12)


def test_a_weight_of_zero_silences_an_infinite_half() -> None:
    student, teacher = logits()
    student = put(student, -math.inf, 0)
    actual = evaluate("symmetric_kl", student, teacher, forward_weight=0.0)
    all_close(actual, evaluate("reverse_kl", student, teacher), 1e-12)
    values, *slopes = evaluate("symmetric_kl", student, teacher, forward_weight=0.5)
    assert (values == math.inf).all()
    assert all(slope.isfinite().all() for slope in slopes)
