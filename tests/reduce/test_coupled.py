"""Problems of several rows, evaluated on the logits that per-token terms need anyway."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.objectives import LossInputs, SinkhornKD
from kdlight.reduce import Chunking, coupled
from tests.objectives.test_sinkhorn import MASK

OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"geometry": "sequence"},
    {"geometry": "sequence", "reduction": "sum", "gradient": "implicit"},
    {"geometry": "sequence", "debiased": True, "relative_epsilon": True, "p": 2},
    {"geometry": "sequence", "gradient": "detached"},
]
LABELS = torch.tensor([[0, 1, 2, 3, 4], [5, 6, 7, 8, 0], [1, 3, 5, 7, 8]])


def squash(logits: Tensor) -> Tensor:
    return 3 * torch.tanh(logits / 3)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each chunk that holds problems."""
    rows: list[int] = []
    evaluate = coupled.CoupledChunks._evaluate

    def count(self: Any, number: int) -> None:
        rows.append(number)
        evaluate(self, number)

    monkeypatch.setattr(coupled.CoupledChunks, "_evaluate", count)
    return rows


def results(
    options: dict[str, Any], mask: Tensor | None, transform: Any, chunked: Any
) -> list[Tensor]:
    torch.manual_seed(0)
    hidden = [torch.randn(3, 5, width, dtype=torch.float64) for width in (4, 6)]
    heads = [nn.Linear(width, 9).double() for width in (4, 6)]
    heads[1].requires_grad_(False)
    student = Projected(hidden[0].requires_grad_(), heads[0], transform)
    inputs = LossInputs(
        student, Projected(hidden[1], heads[1], transform), LABELS, mask, chunked=chunked
    )
    loss = SinkhornKD(sinkhorn=0.7, **options)(inputs)
    grads = torch.autograd.grad(2 * loss.mean(), [student.hidden, *heads[0].parameters()])
    return [
        loss.total.detach(),
        loss.count,
        *grads,
        *(loss.parts[key] for key in sorted(loss.parts)),
    ]


@pytest.mark.parametrize("transform", [None, squash])
@pytest.mark.parametrize("mask", [MASK, None], ids=["masked", "whole"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_they_are_what_all_logits_at_once_give(
    options: dict[str, Any], mask: Tensor | None, transform: Any, counted: list[int]
) -> None:
    apart = results(options, mask, transform, False)
    assert counted == []
    for chunking in (
        Chunking(tokens=15),
        Chunking(tokens=10, block=2),
        Chunking(tokens=3, block=1),
    ):
        together = results(options, mask, transform, chunking)
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-12)
    assert counted  # at least the largest chunks hold all problems


def test_no_position_is_zero(counted: list[int]) -> None:
    found = results({"geometry": "sequence"}, MASK & False, None, Chunking(tokens=15))
    assert not any(each.any() for each in found)
    assert counted == []


def test_a_chunk_holds_whole_problems(counted: list[int]) -> None:
    results({"geometry": "sequence"}, None, None, Chunking(tokens=14, block=14))
    assert counted == [10, 5]


def test_products_with_the_heads_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[int] = []
    begin = coupled.CoupledChunks.begin

    def count(self: Any, rows: slice) -> None:
        products.append(rows.stop - rows.start)
        begin(self, rows)

    def no_product(self: Projected) -> Tensor:
        raise AssertionError("logits were computed once more")

    monkeypatch.setattr(coupled.CoupledChunks, "begin", count)
    monkeypatch.setattr(Projected, "logits", no_product)
    results({"geometry": "sequence"}, MASK, None, Chunking(tokens=15))
    assert sum(products) == MASK.sum()


def test_without_a_gradient_the_value_is_the_same() -> None:
    inputs = (torch.randn(3, 5, 9), torch.randn(3, 5, 9), LABELS)
    objective = SinkhornKD(geometry="sequence")
    losses = [
        objective(LossInputs(*inputs, chunked=chunked)).total
        for chunked in (False, Chunking(tokens=15))
    ]
    torch.testing.assert_close(*losses)
