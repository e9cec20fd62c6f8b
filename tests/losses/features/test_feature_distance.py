"""Distances of features, position by position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdlight.losses.features.feature_distance import KINDS, feature_distance


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, *shape, dtype=torch.float64).unbind()
    return student, teacher


@pytest.mark.parametrize("kind", KINDS)
def test_positions_may_have_any_number_of_axes(kind: str) -> None:
    student, teacher = pair(2, 3, 4)
    values = feature_distance(student, teacher, kind=kind)
    flat = feature_distance(student.flatten(0, 1), teacher.flatten(0, 1), kind=kind)
    assert torch.equal(values, flat.view(2, 3))
    assert torch.equal(feature_distance(student[0, 0], teacher[0, 0], kind=kind), values[0, 0])


def test_values_are_those_of_pytorch() -> None:
    student, teacher = pair(6, 5)
    close = torch.testing.assert_close
    expected = functional.mse_loss(student, teacher, reduction="none").mean(-1)
    close(feature_distance(student, teacher), expected)
    expected = functional.smooth_l1_loss(student, teacher, reduction="none", beta=0.5).mean(-1)
    close(feature_distance(student, teacher, kind="smooth_l1", beta=0.5), expected)
    expected = 1 - functional.cosine_similarity(student, teacher)
    close(feature_distance(student, teacher, kind="cosine"), expected)
    twice = feature_distance(student, teacher, kind="normalized_mse")
    close(twice, 2 * expected)


def test_a_row_of_zeros_has_no_direction() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    others = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    values = feature_distance(rows, others, kind="cosine")
    torch.testing.assert_close(values, torch.ones(3))  # as 1 - cosine_similarity
    assert torch.autograd.grad(values.sum(), rows)[0][:2].eq(0).all()
    values = feature_distance(rows, others, kind="normalized_mse")
    torch.testing.assert_close(values, torch.tensor([0.0, 1.0, 1.0]))
    assert torch.autograd.grad(values[:2].sum(), rows)[0].eq(0).all()


def test_small_angles_keep_their_digits() -> None:
    student, teacher = torch.tensor([[1.0, 1e-4]]), torch.tensor([[1.0, 0.0]])
    value = feature_distance(student, teacher, kind="cosine")
    assert value.item() == pytest.approx(0.5e-8, rel=1e-4)  # 1 - cosine is 0 in float32
    assert functional.cosine_similarity(student, teacher).item() == 1


def test_large_differences_count_linearly_in_smooth_l1() -> None:
    student, teacher = torch.tensor([[100.0, 0.0]]), torch.zeros(1, 2)
    assert feature_distance(student, teacher, kind="smooth_l1").tolist() == [99.5 / 2]
    assert feature_distance(student, teacher).tolist() == [5000.0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "l2"}, "kind must be one of 'mse', 'smooth_l1', .*, got 'l2'"),
        ({"beta": 0.0}, "beta must be above 0 and finite, got 0.0"),
        ({"beta": float("inf")}, "beta must be above 0 and finite, got inf"),
    ],
)
def test_options_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        feature_distance(torch.zeros(2, 3), torch.zeros(2, 3), **options)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got student \(2, 3\) and teacher \(2, 4\); project"):
        feature_distance(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"got student \(1, 3\) and teacher \(2, 3\)$"):
        feature_distance(torch.zeros(1, 3), torch.zeros(2, 3))
    for shape in ((), (2, 0)):
        with pytest.raises(ValueError, match="width D of at least 1"):
            feature_distance(torch.zeros(shape), torch.zeros(shape))
