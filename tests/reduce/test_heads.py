"""Gradients of hidden states and of output heads of any kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Chunking, LossInputs, Projected
from kdlight.objectives import ForwardKL, ReverseKL
from kdlight.reduce.heads import LinearHeadChunks, is_plain_linear
from tests.support.chunked_data import SIZES, D, N, ProjectedData, V, assert_all_close


@pytest.mark.parametrize("chunking", SIZES[:2], ids=str)
@pytest.mark.parametrize("frozen", ["head", "body", "both"])
def test_frozen_hidden_states_or_heads_get_no_gradient(frozen, chunking):
    data, objective = ProjectedData(), ReverseKL()
    if frozen != "body":
        data.head.requires_grad_(False)
    if frozen != "head":
        data.hidden.requires_grad_(False)
    chunked, at_once = (objective(data.inputs(how)).total for how in (chunking, False))
    assert chunked.requires_grad == (frozen != "both")
    torch.testing.assert_close(chunked, at_once)
    if frozen != "both":
        assert_all_close(data.evaluate(objective, chunking), data.evaluate(objective, False))


def test_tied_embeddings_get_both_gradients():
    data = ProjectedData(bias=False)
    ids = torch.arange(N) % V

    def gradient(chunked: Any) -> Tensor:
        student = Projected(torch.tanh(nn.functional.embedding(ids, data.head.weight)), data.head)
        loss = ForwardKL()(data.inputs(chunked, student=student)).total
        return torch.autograd.grad(loss, data.head.weight)[0]

    torch.testing.assert_close(gradient(Chunking(5, 2)), gradient(False), rtol=1e-10, atol=1e-12)


class LowRank(nn.Module):
    """A head with an adapter."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        self.out_features = head.out_features
        self.down, self.up = nn.Linear(D, 2).double(), nn.Linear(2, V).double()

    def forward(self, hidden: Tensor) -> Tensor:
        return self.head(hidden) + self.up(self.down(hidden))


@pytest.mark.parametrize("chunking", SIZES, ids=str)
def test_gradients_of_a_head_that_is_a_module(chunking):
    data, objective = ProjectedData(), ForwardKL()
    low_rank = LowRank(data.head)
    data.parameters = list(low_rank.parameters())
    data.student = Projected(data.hidden, low_rank)
    data.teacher = Projected(data.teacher_hidden, nn.Sequential(data.teacher_head))
    data.teacher.head.weight = data.teacher_head.weight  # what a source reads its width from
    assert_all_close(data.evaluate(objective, chunking), data.evaluate(objective, False))


def test_a_plain_linear_head_has_neither_hooks_nor_subclass():
    class Scaled(nn.Linear):
        """May compute anything else."""

    hooked = nn.Linear(D, V)
    hooked.register_forward_hook(lambda *call: None)
    assert is_plain_linear(nn.Linear(D, V))
    assert not is_plain_linear(hooked)
    assert not is_plain_linear(Scaled(D, V))
    assert not is_plain_linear(lambda hidden: hidden)


def test_float16_gradients_of_logits_do_not_underflow():
    """They are scaled while they pass through the products."""
    head = nn.Linear(2, 64, bias=False).half()
    nn.init.ones_(head.weight)
    provider = LinearHeadChunks(Projected(torch.ones(1, 2, dtype=torch.float16), head), tokens=1)
    provider.require_grad([True, False])
    provider.begin(slice(0, 1))
    provider.set_grad(slice(0, 1), torch.full((1, 64), 2.0**-26))  # which is 0 in float16
    provider.backward(slice(0, 1))
    grad, frozen = provider.gradients()
    assert grad is not None
    assert grad.float().tolist() == [[2.0**-20] * 2]
    assert frozen is None


@pytest.mark.parametrize("size", [2.0**-20, 1.0, 300.0, 2000.0])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("widened", ["in autocast", "hidden states too", "no"])
def test_float16_gradients_of_any_size_are_those_of_float32(size, block, widened):
    """Slopes grow with the weight of a term, and from row to row."""
    generator = torch.Generator().manual_seed(0)
    slopes = size * torch.randn(8, 6, generator=generator) * torch.logspace(-3, 0, 8)[:, None]
    head, hidden = nn.Linear(3, 6), torch.randn(8, 3, generator=generator)
    exact = [slopes @ head.weight, slopes.t() @ hidden, slopes.sum(0)]
    if widened == "no":
        head.half()
    source = Projected(hidden if widened == "in autocast" else hidden.half(), head)
    with torch.autocast("cpu", torch.float16, enabled=widened != "no"):
        provider = LinearHeadChunks(source, tokens=4)
    provider.require_grad([True, True, True])
    for rows in (slice(0, 4), slice(4, 8)):
        provider.begin(rows)
        for start in range(0, 4, block):
            part = slice(start, start + block)
            provider.set_grad(part, slopes[rows][part])
        provider.backward(rows)
    for actual, expected in zip(provider.gradients(), exact, strict=True):
        assert actual is not None
        tiny = 2.0**-24 if actual.dtype == torch.float16 else 0.0
        assert (actual.float() - expected).norm() <= 3e-3 * expected.norm() + tiny * 5


def test_sums_that_overflow_float16_are_added_up_in_float32():
    head = nn.Linear(1, 2, bias=False).half()
    source = Projected(torch.full((4096, 1), 8.0).half(), head)
    provider = LinearHeadChunks(source, tokens=4096)
    provider.require_grad([False, True])
    provider.begin(slice(0, 4096))
    provider.set_grad(slice(0, 4096), torch.ones(4096, 2))
    provider.backward(slice(0, 4096))
    _, grad = provider.gradients()
    assert grad is not None
    assert grad.tolist() == [[8 * 4096.0]] * 2


def test_a_float16_head_gets_no_gradient_from_no_position():
    head = nn.Linear(3, 5).half()
    source = Projected(torch.ones(2, 3, dtype=torch.float16, requires_grad=True), head)
    inputs = LossInputs(
        source,
        torch.zeros(2, 5),
        mask=torch.zeros(2, dtype=torch.bool),
        chunked=Chunking(2, 1),
    )
    loss = ForwardKL()(inputs)
    loss.total.backward()
    assert loss.total == 0
    assert all(p.grad is None or not p.grad.any() for p in head.parameters())
