"""Reverse KL over the student's top k and one outcome for all other tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from kdlight import losses
from kdlight.losses.topk import log_mass, without
from kdlight.losses.topk_reverse_kl import most_likely


def on_k(student: Tensor, teacher: Tensor, k: int) -> Tensor:
    ids, log_p = most_likely(student, k), teacher.log_softmax(-1)
    log_tail = log_mass(without(log_p, ids))
    return losses.topk_reverse_kl(student, ids, log_p.gather(-1, ids), log_tail)


def test_a_worked_value() -> None:
    student = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64).log()
    log_p = torch.tensor([[0.5, 0.2]], dtype=torch.float64).log()
    value = losses.topk_reverse_kl(student, torch.tensor([[1, 3]]), log_p)
    expected = 0.4 * math.log(0.4 / 0.5) + 0.3 * math.log(0.3 / 0.2) + 0.3 * math.log(0.3 / 0.3)
    assert value.item() == pytest.approx(expected)


def test_it_is_never_negative_and_grows_with_k_to_the_kl_of_all_tokens(
    student: Tensor, teacher: Tensor
) -> None:
    full, before = losses.reverse_kl(student, teacher), torch.zeros(2, 5).double()
    for k in range(1, 9):
        now = on_k(student, teacher, k)
        assert (now >= before - 1e-12).all()
        assert (now <= full + 1e-12).all()
        if k >= 6:  # a tail of one token is that token; more than V are V
            torch.testing.assert_close(now, full, rtol=1e-12, atol=1e-12)
        before = now


@pytest.mark.parametrize("k", [1, 3, 7])
def test_zero_and_without_gradient_at_a_match(student: Tensor, k: int) -> None:
    values = on_k(student, student.detach(), k)
    assert values.abs().max() < 1e-15
    assert torch.autograd.grad(values.sum(), student)[0].abs().max() < 1e-15


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_gradient_is_the_slope_for_both_sides(student: Tensor, teacher: Tensor, k: int) -> None:
    ids = most_likely(student, k)

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        log_p = teacher.log_softmax(-1)
        tail = log_mass(without(log_p, ids))
        return losses.topk_reverse_kl(student, ids, log_p.gather(-1, ids), tail)

    assert gradcheck(loss, (student, teacher.requires_grad_()))


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("k", [1, 2])
def test_extreme_teachers_are_finite_and_not_clamped(size: float, k: int) -> None:
    """The tail and the kept tokens alike, to the last digits of float32."""
    student = torch.tensor([[2.0, 1.0, 0.0, -1.0]], requires_grad=True)
    for row in ([0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]):
        teacher = size * torch.tensor([row])
        values = on_k(student, teacher, k)
        (gradient,) = torch.autograd.grad(values.sum(), student)
        wide = student.detach().double().requires_grad_()
        expected = on_k(wide, teacher.double(), k)
        (slope,) = torch.autograd.grad(expected.sum(), wide)
        assert values.isfinite().all()
        assert gradient.isfinite().all()
        torch.testing.assert_close(values.double(), expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=1e-5 * size)
        assert values.item() > 1e-3 * size


def test_the_order_of_the_ids_does_not_matter_and_they_may_be_any(
    student: Tensor, teacher: Tensor
) -> None:
    ids, log_p = most_likely(teacher, 3), teacher.log_softmax(-1)
    value = losses.topk_reverse_kl(student, ids, log_p.gather(-1, ids))
    back = ids.flip(-1)
    other = losses.topk_reverse_kl(student, back, log_p.gather(-1, back))
    torch.testing.assert_close(value, other)
    assert (value <= losses.reverse_kl(student, teacher) + 1e-12).all()


def test_a_tail_that_is_not_given_is_what_is_left(student: Tensor, teacher: Tensor) -> None:
    ids, log_p = most_likely(student, 3), teacher.log_softmax(-1)
    left = losses.topk_reverse_kl(student, ids, log_p.gather(-1, ids))
    torch.testing.assert_close(left, on_k(student, teacher, 3))


def test_tokens_that_one_side_forbids_follow_the_rule() -> None:
    student = torch.tensor([[1.0, 0.5, 0.0, -math.inf]], requires_grad=True)
    forbids_kept = torch.tensor([[-math.inf, 0.0, 0.0, 0.0]])
    forbids_tail = torch.tensor([[0.0, 0.0, -math.inf, -math.inf]])
    for teacher in (forbids_kept, forbids_tail):
        values = on_k(student, teacher, 2)
        assert values.item() == math.inf
        assert torch.autograd.grad(values.sum(), student)[0].isfinite().all()
    outside = torch.tensor([[0.0, 0.3, 0.2, -math.inf]])
    for k in (2, 3, 4):
        torch.testing.assert_close(
            on_k(student, outside, k), on_k(student[:, :3], outside[:, :3], k)
        )


def test_nan_stays_visible() -> None:
    student = torch.tensor([[0.0, 1.0, math.nan], [0.0, 1.0, 2.0]])
    teacher = torch.tensor([[0.0, 1.0, 2.0], [0.0, math.nan, 2.0]])
    assert on_k(student, teacher, 1).isnan().all()


def test_what_does_not_fit_is_named() -> None:
    ids, log_p = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"got \(4, 9\), \(2, 3\), \(2, 3\)"):
        losses.topk_reverse_kl(torch.zeros(4, 9), ids, log_p)
    with pytest.raises(ValueError, match=r"got \(2, 9\), \(2, 3\), \(2, 2\)"):
        losses.topk_reverse_kl(torch.zeros(2, 9), ids, log_p[:, :2])
    with pytest.raises(ValueError, match=r"one value per position, \(2,\), got \(2, 1\)"):
        losses.topk_reverse_kl(torch.zeros(2, 9), ids, log_p, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="teacher_log_probs must be logarithms of .* got 0.5"):
        losses.topk_reverse_kl(torch.zeros(2, 9), ids, log_p + 0.5)
    with pytest.raises(TypeError, match="floating point"):
        losses.topk_reverse_kl(torch.zeros(2, 9).long(), ids, log_p)
