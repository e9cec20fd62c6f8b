"""Nothing of points x points x vocabulary, and of the vocabulary's width no more than is wanted."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from kdlight import Projected
from kdlight.losses import sinkhorn
from kdlight.losses.optimal_transport import blocks, distances
from kdlight.objectives import LossInputs, Sinkhorn
from kdlight.reduce import Chunking

N, M, V, D = 24, 20, 1000, 4


class Largest(TorchDispatchMode):
    """The most entries of any tensor that an operation makes, forward or backward."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_iter(result):
            if isinstance(each, Tensor) and each.untyped_storage().nbytes():
                self.entries = max(
                    self.entries, each.untyped_storage().nbytes() // each.element_size()
                )
        return result


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(rows, V, dtype=dtype, generator=generator) * 3 for rows in (N, M)
    )
    return student.requires_grad_(), teacher


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("debiased", [False, True])
def test_blocks_give_what_all_at_once_gives(
    p: int, debiased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = pair()
    found = []
    for divided in (False, True):
        with monkeypatch.context() as patch:
            if divided:
                patch.setattr(blocks, "FEW", 0)
                patch.setattr(blocks, "ENTRIES", 1)
            value = sinkhorn(student, teacher, p=p, debiased=debiased)
            found.append((value, *torch.autograd.grad(value, student)))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("p", [1, 2])
def test_a_device_without_a_kernel_of_its_own_gets_the_same_slopes(
    p: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (torch.rand(rows, V, dtype=torch.float64) for rows in (N, M))
    x[3] = y[5]  # points that meet
    grad, far = torch.randn(N, M, dtype=torch.float64), torch.cdist(x, y, p)
    expected = blocks.distance_grad(grad, x, y, far, p)
    if p == 2:
        found = blocks.euclidean_grad(grad, x, y, far)
    else:
        monkeypatch.setattr(blocks, "BUFFER", 7 * N * M)
        with Largest() as largest:
            found = blocks.absolute_grad(grad, x, y)
        assert largest.entries <= max(7 * N * M, N * V)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_no_tensor_is_larger_than_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = pair()
    cases: list[Any] = [{}, {"debiased": True}, {"p": 2, "gradient": "implicit"}]
    for options in cases:
        monkeypatch.setattr(blocks, "FEW", 0)
        monkeypatch.setattr(blocks, "ENTRIES", 1)
        with Largest() as largest:
            sinkhorn(student, teacher, **options).backward()
        assert largest.entries == N * V < N * M * V


def logits_alive() -> list[Tensor]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Tensor and each.shape[1:] == (V,)]


@pytest.mark.parametrize("debiased", [False, True])
def test_hidden_states_never_become_all_logits(
    debiased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, other = torch.randn(N, D, requires_grad=True), torch.randn(M, D)
    heads = nn.Linear(D, V), nn.Linear(D, V).requires_grad_(False)
    monkeypatch.setattr(blocks, "FEW", 0)
    monkeypatch.setattr(blocks, "ENTRIES", 1)
    step = LossInputs(
        Projected(hidden, heads[0]),
        Projected(other, heads[1]),
        teacher_mask=torch.ones(M).bool(),
        chunked=Chunking(tokens=3),
    )
    before = {id(each) for each in logits_alive()}
    with Largest() as largest:
        total = Sinkhorn(debiased=debiased)(step).total
        kept = [each for each in logits_alive() if id(each) not in before]
        total.backward()
    assert kept == []
    assert largest.entries == D * V < N * V  # the head's weight and its gradient


def test_the_float32_distance_of_a_large_vocabulary_keeps_five_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 30522, generator=generator) for _ in range(2))
    exact = sinkhorn(student.double(), teacher.double())
    assert sinkhorn(student, teacher).item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_distances_of_points_from_themselves_have_the_gradient_in_both(p: int) -> None:
    x = torch.rand(5, 7, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(5, 5, dtype=torch.float64)
    first = distances.distances_to(x, [x.detach], p=p)
    both = distances.own_distances(first)
    assert torch.equal(both, first)
    expected = torch.cdist(x, x, p)
    grads = [torch.autograd.grad((weights * each).sum(), x)[0] for each in (both, expected)]
    torch.testing.assert_close(*grads)
