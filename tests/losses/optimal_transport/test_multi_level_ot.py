"""MultiLevelOT: its three terms, compared with a slow reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses import multi_level_ot
from kdlight.objectives import MultiLevelOT
from tests.losses.optimal_transport.test_uld import STUDENT_MASK, TEACHER_MASK, close, pair

pair = pair  # the fixture
MASKS: dict[str, Any] = {"student_mask": STUDENT_MASK, "teacher_mask": TEACHER_MASK}


def slowly(student: Tensor, teacher: Tensor, *, k: int, beta: float, gamma: float) -> Tensor:
    """The paper's sums, sequence by sequence, and position by position."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(len(student)):
        q, p = student[b][STUDENT_MASK[b]], teacher[b][TEACHER_MASK[b]]
        n = min(len(q), len(p))
        if not n:
            continue
        top_q = q.softmax(-1).sum(0).argsort(descending=True)[:k]
        top_p = p.softmax(-1).sum(0).argsort(descending=True)[:k]
        for t in range(n):
            for i, j in zip(top_q, top_p, strict=True):
                x, y = q[t].softmax(-1)[i], p[t].softmax(-1)[j]
                total = total + (y - x).abs() - beta * y * x.log()
        cost = torch.cdist((p / 2).softmax(-1)[:, top_p], (q / 2).softmax(-1)[:, top_q], p=1)
        plan = torch.exp(-cost / 0.1)
        for _ in range(20):  # rows, which are the teacher's, then columns
            plan = plan / plan.sum(1, keepdim=True) / len(p)
            plan = plan / plan.sum(0, keepdim=True) / len(q)
        total = total + gamma * n * (plan * cost).sum()
    return total


@pytest.mark.parametrize(
    "options", [{}, {"k": 3}, {"beta": 0.0}, {"gamma": 0.0}, {"k": 1, "beta": 2.0, "gamma": 3.0}]
)
def test_value_and_gradient_are_those_of_the_slow_reference(pair: Any, options: Any) -> None:
    student, teacher = pair
    value = multi_level_ot(student, teacher, **MASKS, **options, reduction="sum")
    numbers = {"k": 50, "beta": 0.1, "gamma": 0.1} | options
    expected = slowly(student, teacher, **{**numbers, "k": min(numbers["k"], 7)})
    close(value, expected)
    close(*(torch.autograd.grad(each, student)[0] for each in (value, expected)))
    close(multi_level_ot(student, teacher, **MASKS, **options), expected / 4)  # pairs


def test_ignored_positions_do_not_leak_and_none_is_zero(pair: Any) -> None:
    student, teacher = pair
    dirty = student.detach().masked_fill(~STUDENT_MASK[..., None], torch.nan).requires_grad_()
    value = multi_level_ot(dirty, teacher.masked_fill(~TEACHER_MASK[..., None], torch.inf), **MASKS)
    close(value, multi_level_ot(student, teacher, **MASKS))
    assert torch.autograd.grad(value, dirty)[0].isfinite().all()
    nothing = multi_level_ot(
        dirty, teacher, student_mask=STUDENT_MASK & False, teacher_mask=TEACHER_MASK
    )
    assert nothing == 0
    assert not torch.autograd.grad(nothing, dirty)[0].any()


def test_columns_are_ranked_once_per_sequence(pair: Any) -> None:
    student, _ = pair
    order = torch.randperm(7)
    alone = multi_level_ot(student, student.detach()[..., order], beta=0.0, gamma=0.0)
    assert alone.item() == pytest.approx(0.0, abs=1e-12)
    each = torch.stack([torch.randperm(7) for _ in range(5)])
    shuffled = student.detach().gather(-1, each.expand(3, 5, 7))
    assert multi_level_ot(student, shuffled, beta=0.0, gamma=0.0) > 1e-2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"beta": -1.0}, "beta must be in .*got -1.0"),
        ({"gamma": float("inf")}, "gamma must be in .*got inf"),
        ({"temperature": 0.0}, "temperature must be .*got 0.0"),
        ({"iterations": 0}, "iterations must be .*got 0"),
    ],
)
def test_a_wrong_argument_is_named(wrong: Any, message: str, pair: Any) -> None:
    with pytest.raises(ValueError, match=message):
        multi_level_ot(*pair, **wrong)
    with pytest.raises(ValueError, match=message):
        MultiLevelOT(**wrong)


def test_no_sequences_are_zero_with_a_graph() -> None:
    student = torch.zeros(0, 3, 5, requires_grad=True)
    loss = multi_level_ot(student, torch.zeros(0, 4, 7))
    assert loss == 0
    assert torch.autograd.grad(loss, student)[0].shape == student.shape
