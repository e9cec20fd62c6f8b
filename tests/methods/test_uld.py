"""ULD: pairs of positions, sorted probabilities, and the objective that counts sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.losses import uld
from kdlight.losses.alignment import align
from kdlight.objectives import ULD, LossInputs
from kdlight.reduce import Chunking
from tests.support import reference

OURS = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
THEIRS = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]).bool()
PAIRS = [[(1, 2), (2, 3)], [], [(0, 0), (1, 1)]]  # positions of each sequence


@pytest.fixture
def pair(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    options: Any = {"dtype": torch.float64, "generator": generator}
    return torch.randn(3, 5, 7, **options).requires_grad_(), torch.randn(3, 4, 11, **options)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_the_kth_position_that_counts_stands_beside_the_kth() -> None:
    shapes = torch.Size([3, 5, 7]), torch.Size([3, 4, 11])
    pairs = align(*shapes, OURS, THEIRS)
    flat = [(5 * b + k, 4 * b + j) for b, found in enumerate(PAIRS) for k, j in found]
    assert list(zip(pairs.student.tolist(), pairs.teacher.tolist(), strict=True)) == flat
    assert pairs.lengths.tolist() == [2, 0, 2]


def test_value_and_gradient_are_those_of_the_slow_reference(pair: Any) -> None:
    student, teacher = pair
    value = uld(student, teacher, student_mask=OURS, teacher_mask=THEIRS)
    means = [
        torch.stack([reference.uld(student[b, k], teacher[b, j]) for k, j in found]).mean()
        for b, found in enumerate(PAIRS)
        if found
    ]
    expected = torch.stack(means).mean()
    close(value, expected)
    slopes = [torch.autograd.grad(each, student)[0] for each in (value, expected)]
    close(*slopes)
    assert not slopes[0][~OURS].any()


def test_which_token_has_a_probability_does_not_matter(pair: Any) -> None:
    student, teacher = pair
    shuffled = student[..., torch.randperm(7)]
    close(uld(shuffled, teacher, teacher_mask=THEIRS), uld(student, teacher, teacher_mask=THEIRS))
    assert uld(shuffled, student.detach()).item() == pytest.approx(0, abs=1e-12)


def test_ignored_positions_do_not_leak_and_none_is_zero(pair: Any) -> None:
    student, teacher = pair
    dirty = student.detach().masked_fill(~OURS[..., None], torch.nan).requires_grad_()
    masks: dict[str, Any] = {"student_mask": OURS, "teacher_mask": THEIRS}
    value = uld(dirty, teacher.masked_fill(~THEIRS[..., None], torch.inf), **masks)
    close(value, uld(student, teacher, **masks))
    assert torch.autograd.grad(value, dirty)[0].isfinite().all()
    nothing = uld(dirty, teacher, student_mask=OURS & False, teacher_mask=THEIRS)
    assert nothing == 0
    assert not torch.autograd.grad(nothing, dirty)[0].any()


@pytest.mark.parametrize("chunked", [False, Chunking(tokens=2, block=1)])
def test_the_objective_is_the_loss_for_each_sequence(pair: Any, chunked: Any) -> None:
    _, teacher = pair
    hidden = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(4, 7).double()
    source = Projected(hidden, head)
    loss = ULD(student_temperature=2.0)(
        LossInputs(source, teacher, mask=OURS, teacher_mask=THEIRS, chunked=chunked)
    )
    masks: dict[str, Any] = {"student_mask": OURS, "teacher_mask": THEIRS}
    expected = uld(head(hidden), teacher, student_temperature=2.0, **masks)
    close(loss.mean(), expected)
    assert loss.count == 2
    leaves = [hidden, head.weight]
    close(torch.autograd.grad(loss.mean(), leaves), torch.autograd.grad(expected, leaves))


def test_what_does_not_fit_is_named(pair: Any) -> None:
    student, teacher = pair
    with pytest.raises(ValueError, match="same sequences, got 3 of the student, 2 of the teacher"):
        uld(student, teacher[:2])
    with pytest.raises(ValueError, match=r"teacher_mask \(B, T\), got \(3, 4, 11\) and \(3, 5\)"):
        uld(student, teacher, teacher_mask=OURS)
    with pytest.raises(ValueError, match="teacher_temperature must be above 0 .*got 0"):
        ULD(teacher_temperature=0.0)
