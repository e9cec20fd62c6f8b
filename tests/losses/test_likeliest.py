"""The largest entries of each row are the first columns of a stable sort."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from kdlight.losses import likeliest as module
from kdlight.losses.likeliest import is_in_memory, likeliest


def rows(spread: float, width: int, dtype: torch.dtype, *, tied: bool) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    scores = spread * torch.randn(4, width, dtype=torch.float64, generator=generator)
    return (scores.bfloat16() if tied else scores).to(dtype)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 0.01, 3.0, 50.0])  # of 0 there are zeros of both signs
def test_they_are_those_of_a_stable_sort(spread: float, dtype: torch.dtype, tied: bool) -> None:
    for width in (1, 7, 3000):
        scores = rows(spread, width, dtype, tied=tied)
        for each in (scores, scores.softmax(-1), scores.log_softmax(-1)):
            ordered, order = torch.sort(each, dim=-1, descending=True, stable=True)
            for count in {1, min(64, width), width}:
                values, places = likeliest(each, count)
                assert torch.equal(values, ordered[:, :count])
                assert torch.equal(places, order[:, :count])


def test_impossible_tokens_come_last_in_the_order_of_the_row() -> None:
    scores = torch.tensor([[-torch.inf, 2.0, -torch.inf, -1.0]])
    assert likeliest(scores, 3)[1].tolist() == [[1, 3, 0]]


def test_leading_dimensions_are_kept_and_no_gradient_passes() -> None:
    scores = torch.randn(2, 3, 9, requires_grad=True)
    values, places = likeliest(scores, 4)
    assert values.shape == places.shape == (2, 3, 4)
    assert not values.requires_grad
    assert torch.equal(values, scores.detach().topk(4, -1).values)


def test_a_row_with_nan_leaves_the_others_alone() -> None:
    scores = torch.tensor([[torch.nan] * 4, [0.0, 3.0, 1.0, 2.0]])
    values, places = likeliest(scores, 2)
    assert values[0].isnan().all()
    assert places[1].tolist() == [1, 3]


@pytest.mark.parametrize("count", [5, 40])
def test_nothing_is_asked_where_values_cannot_be_read(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = rows(3.0, 40, torch.float32, tied=False)
    expected = likeliest(scores, count)
    monkeypatch.setattr(module, "can_read", lambda tensor: False)
    monkeypatch.setattr(Tensor, "numpy", None)
    for one, other in zip(likeliest(scores, count), expected, strict=True):
        assert torch.equal(one, other)


def test_a_traced_tensor_is_not_in_memory() -> None:
    seen: list[bool] = []

    def look(row: Tensor) -> Tensor:
        seen.append(is_in_memory(row))
        return likeliest(row, 2)[0].sum()

    scores = torch.randn(3, 5)
    torch.testing.assert_close(torch.func.vmap(look)(scores), scores.topk(2, -1).values.sum(-1))
    assert seen == [False]


@pytest.mark.parametrize("shape", [(0, 9), (2, 0, 9)])
@pytest.mark.parametrize("count", [4, 9])
def test_there_may_be_no_rows(count: int, shape: tuple[int, ...]) -> None:
    values, places = likeliest(torch.empty(shape), count)
    assert values.shape == places.shape == (*shape[:-1], count)
    assert places.dtype == torch.int64


def test_a_tensor_without_memory_has_a_shape() -> None:
    with FakeTensorMode():
        values, places = likeliest(torch.empty(3, 9), 4)
    assert values.shape == places.shape == (3, 4)
