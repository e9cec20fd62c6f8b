"""Adaptive KL and ToDi."""

from __future__ import annotations

import math

import pytest
import torch

from kdlight import losses
from tests.losses.test_loss_edges import all_close, each_type, evaluate, logits, put
from tests.losses.test_losses import close


def test_adaptive_kl_weighs_the_right_entries() -> None:
    # The head is entry 3 alone (0.6 > 0.5), where student and teacher agree: all is reverse KL.
    p = torch.tensor([0.1, 0.1, 0.2, 0.6], dtype=torch.float64)
    q = torch.tensor([0.2, 0.1, 0.1, 0.6], dtype=torch.float64)
    close(losses.adaptive_kl(q.log(), p.log()), losses.reverse_kl(q.log(), p.log()), 1e-12)
    # A larger head takes entry 2 in, and half of the gap with it.
    both = (losses.forward_kl(q.log(), p.log()) + losses.reverse_kl(q.log(), p.log())) / 2
    close(losses.adaptive_kl(q.log(), p.log(), head_mass=0.85), both, 1e-12)


@each_type
@pytest.mark.parametrize("lowest", [None, -math.inf])
def test_adaptive_kl_of_a_student_that_is_its_teacher(
    dtype: torch.dtype, lowest: float | None
) -> None:
    student, _ = logits(dtype)
    student = student if lowest is None else put(student, lowest, 0)
    for result in evaluate("adaptive_kl", student, student):
        assert torch.equal(result, torch.zeros_like(result))


def test_adaptive_kl_of_a_uniform_teacher_breaks_ties_by_the_order_of_the_vocabulary() -> None:
    student, teacher = torch.tensor([[0.5, 1.0, 0.0, 0.0]]).double(), torch.zeros(1, 4).double()
    q = student.softmax(-1)[0]
    head, tail = ((0.25 - q[v]).abs().sum() for v in ([0, 1], [2, 3]))
    expected = head * losses.forward_kl(student, teacher) + tail * losses.reverse_kl(
        student, teacher
    )
    all_close([losses.adaptive_kl(student, teacher)], [expected / (head + tail)], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_head_of_all_mass_has_no_tail(dtype: torch.dtype) -> None:
    """The sum of all probabilities is rounded, to above 1 or to 1 before the last token."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (5 * torch.randn(2, 200, 999, generator=generator)).to(dtype).unbind()
    student[:, 0] = -torch.inf  # where a reverse KL is finite and a forward KL infinite, and
    teacher[:100, 1] = -torch.inf  # the other way round: a tail of any size would show
    values = losses.adaptive_kl(student, teacher, head_mass=1.0)
    torch.testing.assert_close(values, losses.forward_kl(student, teacher))
    student[:, 0] = 0.0
    values = losses.adaptive_kl(student, teacher, head_mass=1.0)
    torch.testing.assert_close(values, losses.forward_kl(student, teacher))
    assert values.isfinite().all()
