"""ULD: pairs of positions, and distances of sorted probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses import uld
from kdlight.losses.optimal_transport.uld import align
from tests.support import reference

STUDENT_MASK = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
TEACHER_MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]).bool()
PAIRS = [[(1, 2), (2, 3)], [], [(0, 0), (1, 1)]]  # positions of each sequence


@pytest.fixture
def pair(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    options: Any = {"dtype": torch.float64, "generator": generator}
    return torch.randn(3, 5, 7, **options).requires_grad_(), torch.randn(3, 4, 11, **options)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_the_kth_valid_positions_are_a_pair() -> None:
    shapes = torch.Size([3, 5, 7]), torch.Size([3, 4, 11])
    pairs = align(*shapes, STUDENT_MASK, TEACHER_MASK)
    flat = [(5 * b + k, 4 * b + j) for b, places in enumerate(PAIRS) for k, j in places]
    assert list(zip(pairs.student.tolist(), pairs.teacher.tolist(), strict=True)) == flat
    assert pairs.lengths.tolist() == [2, 0, 2]


def test_value_and_gradient_are_those_of_the_slow_reference(pair: Any) -> None:
    student, teacher = pair
    value = uld(student, teacher, student_mask=STUDENT_MASK, teacher_mask=TEACHER_MASK)
    means = [
        torch.stack([reference.uld(student[b, k], teacher[b, j]) for k, j in places]).mean()
        for b, places in enumerate(PAIRS)
        if places
    ]
    expected = torch.stack(means).mean()
    close(value, expected)
    gradients = [torch.autograd.grad(each, student)[0] for each in (value, expected)]
    close(*gradients)
    assert not gradients[0][~STUDENT_MASK].any()


def test_the_order_of_the_vocabulary_does_not_matter(pair: Any) -> None:
    student, teacher = pair
    shuffled = student[..., torch.randperm(7)]
    close(
        uld(shuffled, teacher, teacher_mask=TEACHER_MASK),
        uld(student, teacher, teacher_mask=TEACHER_MASK),
    )
    assert uld(shuffled, student.detach()).item() == pytest.approx(0, abs=1e-12)


def test_ignored_positions_do_not_leak_and_none_is_zero(pair: Any) -> None:
    student, teacher = pair
    dirty = student.detach().masked_fill(~STUDENT_MASK[..., None], torch.nan).requires_grad_()
    masks: dict[str, Any] = {"student_mask": STUDENT_MASK, "teacher_mask": TEACHER_MASK}
    value = uld(dirty, teacher.masked_fill(~TEACHER_MASK[..., None], torch.inf), **masks)
    close(value, uld(student, teacher, **masks))
    assert torch.autograd.grad(value, dirty)[0].isfinite().all()
    nothing = uld(dirty, teacher, student_mask=STUDENT_MASK & False, teacher_mask=TEACHER_MASK)
    assert nothing == 0
    assert not torch.autograd.grad(nothing, dirty)[0].any()


def test_what_does_not_fit_is_named(pair: Any) -> None:
    student, teacher = pair
    numbers = "same sequences, got 3 of the student and 2 of the teacher"
    with pytest.raises(ValueError, match=numbers):
        uld(student, teacher[:2])
    with pytest.raises(ValueError, match=r"teacher_mask \(B, T\), got \(3, 4, 11\) and \(3, 5\)"):
        uld(student, teacher, teacher_mask=STUDENT_MASK)
