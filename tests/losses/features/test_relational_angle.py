"""Angles of all triplets, without a tensor for all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdlight.losses.features import relational_angle as module
from kdlight.losses.features.relational_angle import relational_angle


def pair(count: int = 6) -> tuple[Tensor, Tensor]:
    student = torch.randn(count, 3, dtype=torch.float64, requires_grad=True)
    return student, torch.randn(count, 5, dtype=torch.float64, requires_grad=True)


class Largest(TorchDispatchMode):
    """The most entries of any tensor that an operation makes, forward or backward."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        self.entries = max(self.entries, *(each.numel() for each in tensors), 0)
        return result


def test_the_formula_in_tensors_of_all_triplets() -> None:
    student, teacher = pair()
    angles = []
    for rows in (student, teacher):
        units = torch.nn.functional.normalize(rows[None] - rows[:, None], dim=-1)
        angles.append(units @ units.mT)
    expected = torch.nn.functional.smooth_l1_loss(*angles)
    value = relational_angle(student, teacher)
    torch.testing.assert_close(value, expected)
    for one, other in zip(
        torch.autograd.grad(value, (student, teacher)),
        torch.autograd.grad(expected, (student, teacher)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("entries", [1, 6 * 6 * 2, 6 * 6 * 4])
def test_blocks_of_vertices_give_what_all_at_once_give(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = pair()
    found = []
    for limit in (2**24, entries):
        monkeypatch.setattr(module, "IN_CACHE", limit)
        value = relational_angle(student, teacher)
        found.append((value, *torch.autograd.grad(value, (student, teacher))))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-15)


def test_memory_does_not_grow_with_the_triplets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_CACHE", 1)
    student, teacher = pair(30)
    saved = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal saved
        saved += tensor.numel()
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        relational_angle(student, teacher).backward()
    assert largest.entries <= 30 * 30
    assert saved <= 4 * (student.numel() + teacher.numel())


def test_a_side_without_a_graph_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = pair()
    calls = []
    slopes = module._slopes
    monkeypatch.setattr(module, "_slopes", lambda *a: calls.append(len(a)) or slopes(*a))
    relational_angle(student, teacher.detach()).backward()
    assert len(calls) == 1
    assert student.grad is not None
    assert teacher.grad is None


def test_equal_samples_have_no_angle() -> None:
    student = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    value = relational_angle(student, student.detach() + 1)
    assert value == 0
    value = relational_angle(student, torch.randn(3, 4))
    assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_one_sample_has_no_angles() -> None:
    for count in (0, 1):
        student = torch.randn(count, 3, requires_grad=True)
        value = relational_angle(student, torch.randn(count, 4))
        assert value == 0
        value.backward()
        assert student.grad is not None
        assert (student.grad == 0).all()
