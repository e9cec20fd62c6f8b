"""Providers of logits that exist, and of sources that compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Dense, Projected, TopK
from kdlight.objectives import build_objective
from kdlight.reduce.chunks import DenseChunks, LazyChunks, student_chunks, teacher_chunks
from kdlight.reduce.heads import LinearHeadChunks, ModuleHeadChunks
from tests.support.chunked_data import SIZES, N, ProjectedData, V, assert_all_close


@pytest.mark.parametrize("chunked", [True, *SIZES[:2]], ids=str)
@pytest.mark.parametrize("which", ["dense student", "dense teacher", "both", "no mask"])
def test_student_and_teacher_may_be_dense(which, chunked):
    data, objective = ProjectedData(), build_objective("jensen_shannon")
    changed: dict[str, Any] = {"mask": None} if which == "no mask" else {}
    dense = [side for side in ("student", "teacher") if side in which or which == "both"]

    def evaluate(chunked: Any) -> list[Tensor]:
        sources = {key: Dense(getattr(data, key).logits()) for key in dense}
        return data.evaluate(objective, chunked, **sources, **changed)

    assert_all_close(evaluate(chunked), evaluate(False))


def test_a_lazy_teacher_gets_the_transformed_logits_of_the_student():
    """Of a chunk that starts at the fourth of some valid positions."""
    student, index = torch.randn(5, 3), torch.tensor([0, 2, 3, 5, 7, 8])
    provider = LazyChunks(_StudentPlusPosition(torch.arange(9)), index, lambda logits: 2 * logits)
    provider.begin(slice(3, 6))
    logits = provider.block(slice(1, 3), student[:2])
    assert torch.equal(logits, 2 * student[:2] + torch.tensor([[7], [8]]))


def test_dense_logits_get_a_gradient_of_zero_at_invalid_positions():
    provider = DenseChunks(Dense(torch.ones(2, 2, 3)), torch.tensor([1, 3]))
    provider.require_grad([True])
    provider.begin(slice(0, 2))
    assert provider.block(slice(0, 2)).shape == (2, 3)
    provider.set_grad(slice(1, 2), torch.full((1, 3), 5.0))
    provider.set_grad(slice(0, 1), torch.full((1, 3), 4.0))
    (grad,) = provider.gradients()
    assert grad is not None
    assert grad[:, 0].tolist() == [0.0, 4.0, 0.0, 5.0]


def test_the_provider_depends_on_the_source():
    data = ProjectedData()
    dense = Dense(torch.zeros(N, V))
    assert isinstance(student_chunks(dense, None, 4), DenseChunks)
    assert isinstance(student_chunks(data.student, None, 4), LinearHeadChunks)
    sequential = Projected(data.hidden, _NamedHead(data.head))
    assert isinstance(student_chunks(sequential, None, 4), ModuleHeadChunks)
    assert teacher_chunks(None, None, 4, dense) is None
    assert isinstance(teacher_chunks(TopK.of(dense.tensor, 2), None, 4, dense), LazyChunks)


@dataclass(eq=False)
class _StudentPlusPosition(Dense):
    """Logits ``(n, V)`` that are the student's plus the number of the position."""

    def select(self, index: Any) -> _StudentPlusPosition:
        return _StudentPlusPosition(self.tensor[index])

    def given_student(self, student: Tensor) -> Tensor:
        return student + self.tensor[:, None]


class _NamedHead(nn.Sequential):
    @property
    def out_features(self) -> int:
        return V
