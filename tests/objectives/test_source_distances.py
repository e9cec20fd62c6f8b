"""Distances between the predictions of two sources, from logits and from hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.objectives import source_distances as module
from kdlight.objectives.source_distances import source_distances
from kdlight.reduce import Chunking
from kdlight.sources import Dense

V = 9


@pytest.fixture
def sources() -> tuple[Projected, Projected]:
    heads = [nn.Linear(width, V).double() for width in (4, 6)]
    hidden = [torch.randn(n, width, dtype=torch.float64) for n, width in ((5, 4), (7, 6))]
    return Projected(hidden[0].requires_grad_(), heads[0]), Projected(hidden[1], heads[1])


def expected(student: Tensor, teacher: Tensor, p: int) -> Tensor:
    q, r = (student / 2).softmax(-1), (teacher / 2).softmax(-1)
    gaps = q[:, None] - r[None]
    return gaps.abs().sum(-1) if p == 1 else gaps.square().sum(-1).sqrt()


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("chunked", ["auto", False, Chunking(tokens=2)])
def test_they_are_norms_of_differences_of_probabilities(sources: Any, chunked: Any, p: int) -> None:
    student, teacher = sources
    value = source_distances(student, teacher, temperature=2.0, p=p, chunked=chunked)
    reference = expected(student.logits(), teacher.logits(), p)
    torch.testing.assert_close(value, reference)
    weights = torch.randn_like(reference)
    leaves = [student.hidden, student.head.weight]
    gradients = [torch.autograd.grad((weights * x).sum(), leaves) for x in (value, reference)]
    torch.testing.assert_close(*gradients)


def test_dense_logits_give_the_same(sources: Any) -> None:
    student, teacher = sources
    dense = source_distances(Dense(student.logits()), Dense(teacher.logits()), temperature=2.0, p=1)
    torch.testing.assert_close(dense, source_distances(*sources, temperature=2.0, p=1))


def test_the_teacher_takes_no_gradient(sources: Any) -> None:
    student, teacher = sources
    dense = Dense(teacher.logits())
    assert dense.tensor.requires_grad
    for other in (teacher, dense):
        value = source_distances(student, other, temperature=2.0, p=1).sum()
        assert torch.autograd.grad(value, teacher.head.weight, allow_unused=True) == (None,)


def test_blocks_bound_the_logits_that_exist_at_once(
    sources: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRIES", 3 * V)
    rows: list[int] = []
    for source in sources:
        source.head.register_forward_hook(lambda head, args, logits: rows.append(len(logits)))
    source_distances(*sources, temperature=2.0, p=1)
    assert max(rows) == 3
    rows.clear()
    source_distances(*sources, temperature=2.0, p=1, chunked=False)
    assert max(rows) == 7
