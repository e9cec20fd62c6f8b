"""Forward KL to the teacher's top k."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.topk import filled, log_mass, log_rest


def kept(teacher: Tensor, k: int) -> tuple[Tensor, Tensor]:
    top = teacher.log_softmax(-1).topk(k, -1)
    return top.indices, top.values


def test_a_worked_value_of_each_tail() -> None:
    student, ids = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[3, 0]])
    log_p = torch.tensor([[0.6, 0.2]], dtype=torch.float64).log()
    bucket = 0.6 * math.log(0.6 / 0.25) + 0.2 * math.log(0.2 / 0.25) + 0.2 * math.log(0.2 / 0.5)
    assert losses.topk_forward_kl(student, ids, log_p).item() == pytest.approx(bucket)
    alone = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    value = losses.topk_forward_kl(student, ids, log_p, tail="renormalise")
    assert value.item() == pytest.approx(alone)


def test_the_bucket_is_at_most_the_kl_of_all_tokens_and_grows_to_it(
    student: Tensor, teacher: Tensor
) -> None:
    full, before = losses.forward_kl(student, teacher), torch.zeros(2, 5).double()
    for k in range(1, 7):
        now = losses.topk_forward_kl(student, *kept(teacher, k))
        assert (now >= before - 1e-12).all()
        assert (now <= full + 1e-12).all()
        before = now
    torch.testing.assert_close(before, full, rtol=1e-10, atol=1e-12)  # one token is a bucket of one


def test_renormalised_the_other_tokens_do_not_count(student: Tensor, teacher: Tensor) -> None:
    ids, log_p = kept(teacher, 3)
    value = losses.topk_forward_kl(student, ids, log_p, tail="renormalise")
    others = torch.ones(2, 5, 7).scatter(-1, ids, 0.0).bool()
    moved = student.detach() + 5 * others
    same = losses.topk_forward_kl(moved, ids, log_p, tail="renormalise")
    torch.testing.assert_close(same, value.detach())
    (grad,) = torch.autograd.grad(value.sum(), student)
    assert grad[others].abs().max() < 1e-12
    assert (losses.topk_forward_kl(moved, ids, log_p) - value).abs().max() > 0.1


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_an_unused_entry_counts_for_nothing(tail: str, student: Tensor, teacher: Tensor) -> None:
    ids, log_p = kept(teacher, 3)
    expected = losses.topk_forward_kl(student, ids, log_p, tail=tail)  # type: ignore[arg-type]
    ids = torch.cat([ids, torch.full((2, 5, 2), 6)], -1)
    log_p = torch.cat([log_p, torch.full((2, 5, 2), -torch.inf).double()], -1)
    value = losses.topk_forward_kl(student, ids, log_p, tail=tail)  # type: ignore[arg-type]
    torch.testing.assert_close(value, expected)
    grads = [torch.autograd.grad(each.sum(), student)[0] for each in (value, expected)]
    torch.testing.assert_close(*grads)
    safe, values = filled(ids, log_p)
    assert torch.equal(safe[..., 3:], ids[..., :1].expand(2, 5, 2))
    assert torch.equal(values[..., 3:], log_p[..., :1].expand(2, 5, 2))


def test_a_mass_of_nothing_has_no_gradient_and_a_rest_of_nothing_is_the_rounding_error() -> None:
    log_q = torch.tensor([[0.25, 0.25], [0.0, 0.0]]).log().requires_grad_()
    mass = log_mass(log_q)
    assert mass.tolist() == pytest.approx([math.log(0.5), -math.inf])
    (grad,) = torch.autograd.grad(mass.sum(), log_q)
    torch.testing.assert_close(grad, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    rest = log_rest(torch.tensor([[0.5, 0.25], [0.75, 0.25]]).log())
    eps = torch.finfo(torch.float32).eps
    assert rest.tolist() == pytest.approx([math.log(0.25), math.log(eps)], rel=1e-6)


def test_what_does_not_fit_is_named() -> None:
    ids, log_p = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"got \(4, 9\), \(2, 3\), \(2, 3\)"):
        losses.topk_forward_kl(torch.zeros(4, 9), ids, log_p)
    with pytest.raises(ValueError, match=r"got \(2, 9\), \(2, 3\), \(2, 2\)"):
        losses.topk_forward_kl(torch.zeros(2, 9), ids, log_p[:, :2])
    with pytest.raises(ValueError, match="tail must be one of 'bucket', 'renormalise', got 'drop'"):
        losses.topk_forward_kl(torch.zeros(2, 9), ids, log_p, tail="drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("k", [1, 2])
def test_kept_tokens_that_the_student_forbids_cost_infinity(k: int, lowest: float) -> None:
    student = torch.tensor([[0.0, lowest, lowest], [0.0, 1.0, 2.0]], requires_grad=True)
    ids = torch.tensor([[2, 1], [2, 1]])[:, :k]
    log_p = torch.tensor([[0.6, 0.2], [0.6, 0.2]]).log()[:, :k]
    values = losses.topk_forward_kl(student, ids, log_p, tail="renormalise")
    assert values[0] == torch.inf
    assert values[1].isfinite()
    assert torch.autograd.grad(values.sum(), student)[0].isfinite().all()
