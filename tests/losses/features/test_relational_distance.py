"""Relative distances of samples."""

from __future__ import annotations

import torch

from kdlight.losses.features.relational_distance import relational_distance


def test_three_samples_by_hand() -> None:
    student = torch.tensor([[0.0], [1.0], [2.0]])  # distances 1, 1, 2 of mean 4/3
    teacher = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 2, 3 of mean 2
    gaps = (3 / 4 - 1 / 2, 3 / 4 - 1, 3 / 2 - 3 / 2)
    expected = 2 * sum(gap**2 / 2 for gap in gaps) / 9
    torch.testing.assert_close(relational_distance(student, teacher), torch.tensor(expected))


def test_equal_samples_are_not_part_of_the_mean_distance() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    student = rows.clone().requires_grad_()
    value = relational_distance(student, torch.tensor([[0.0], [1.0], [2.0]]))
    ours, theirs = [0.0, 1.0, 1.0], [0.75, 0.75, 1.5]  # pairs 01, 12, 02
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(value, torch.tensor(2 * sum(g**2 / 2 for g in gaps) / 9))
    (slope,) = torch.autograd.grad(value, student)
    assert slope.isfinite().all()


def test_one_sample_has_no_distances() -> None:
    for count in (0, 1):
        student = torch.randn(count, 3, requires_grad=True)
        value = relational_distance(student, torch.randn(count, 4))
        assert value == 0
        value.backward()
        assert student.grad is not None
        assert (student.grad == 0).all()


def test_a_shift_changes_nothing() -> None:
    student, teacher = torch.randn(5, 3).double(), torch.randn(5, 4).double()
    expected = relational_distance(student, teacher)
    torch.testing.assert_close(relational_distance(student + 7, teacher - 3), expected)
