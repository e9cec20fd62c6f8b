"""Span consistency: which positions form pairs, and their distance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.span_kl import pair_values, pairs

IDS = torch.tensor([[0, 0, 0, 1, 1], [-1, -1, 2, 2, 3]])


def test_pairs_stay_within_a_span_a_sequence_and_a_mask() -> None:
    positions = torch.Size([2, 5])
    assert pairs(IDS, positions).tolist() == [0, 1, 3, 7]
    assert pairs(torch.zeros(2, 5).long(), positions).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    mask = torch.ones(2, 5).bool()
    mask[0, 1] = False
    assert pairs(IDS, positions, mask).tolist() == [3, 7]


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_it_is_the_mean_distance_of_products(
    distance: str, student: Tensor, teacher: Tensor
) -> None:
    teacher.requires_grad_()
    value = losses.span_kl(student, teacher, IDS, distance=distance, temperature=2.0)  # type: ignore[arg-type]
    q, p = ((z / 2.0).softmax(-1).flatten(0, 1) for z in (student, teacher.detach()))
    expected = []
    for i in (0, 1, 3, 7):
        a, b = p[i] * p[i + 1], q[i] * q[i + 1]
        if distance == "mse":
            expected.append(((a - b) ** 2).sum())
        else:
            a, b = a / a.sum(), b / b.sum()
            expected.append((a * (a / b).log()).sum())
    torch.testing.assert_close(value, torch.stack(expected).mean())
    grad, of_teacher = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    torch.testing.assert_close(grad, torch.autograd.grad(torch.stack(expected).mean(), student)[0])
    assert of_teacher is None


def test_no_pairs_are_a_zero_with_a_graph(student: Tensor, teacher: Tensor) -> None:
    value = losses.span_kl(student, teacher, torch.full((2, 5), -1))
    assert value == 0
    assert not torch.autograd.grad(value, student)[0].any()


def test_what_does_not_fit_is_named(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match=r"span_ids \(2, 4\) do not fit .*\(2, 5\)"):
        losses.span_kl(student, teacher, IDS[:, 1:])
    with pytest.raises(TypeError, match=r"span_ids must be integers.*got torch.bool"):
        losses.span_kl(student, teacher, IDS > 0)
    wrong = {"distance": "l1"}
    with pytest.raises(ValueError, match="distance must be one of 'kl', 'mse', got 'l1'"):
        pair_values(student, teacher, **wrong)  # type: ignore[arg-type]
