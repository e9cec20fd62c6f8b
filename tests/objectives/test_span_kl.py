"""SpanKL: the mean over pairs of neighbours within a span, in chunks, and its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Chunking, Projected
from kdlight.losses import span_kl
from kdlight.objectives import DACKL, CrossEntropy, LossInputs, SpanKL, Weighted
from tests.support.objectives import check_attributes, check_refused

IDS = torch.tensor([[0, 0, 0, -1, 1], [2, 2, 3, 3, 3]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 1]], dtype=torch.bool)


def masked(student: Any, teacher: Tensor, **more: Any) -> LossInputs:
    return LossInputs(student, teacher, mask=MASK, span_ids=IDS, **more)


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_the_mean_is_the_loss(distance: Any, student: Tensor, teacher: Any) -> None:
    loss = SpanKL(distance=distance)(masked(student, teacher))
    assert loss.count == 3
    expected = span_kl(student, teacher, IDS, distance=distance, mask=MASK)
    torch.testing.assert_close(loss.mean(), expected)


@pytest.mark.parametrize("distance", ["kl", "mse"])
@pytest.mark.parametrize("chunking", [Chunking(2, 1), Chunking(10, 10)])
def test_hidden_states_in_chunks_give_what_logits_give(
    chunking: Chunking, distance: Any, teacher: Tensor
) -> None:
    hidden = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(3, 7).double()
    objective = SpanKL(distance=distance, temperature=2.0)
    dense = objective(masked(head(hidden), teacher))
    lazy = objective(masked(Projected(hidden, head), teacher, chunked=chunking))
    torch.testing.assert_close(lazy.total, dense.total)
    leaves = [hidden, *head.parameters()]
    chunked, plain = (torch.autograd.grad(x.total, leaves) for x in (lazy, dense))
    for one, other in zip(chunked, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_gradcheck(student: Tensor, teacher: Tensor) -> None:
    for distance in ("kl", "mse"):
        objective = SpanKL(distance=distance)
        assert torch.autograd.gradcheck(lambda z, o=objective: o(masked(z, teacher)).total, student)


def test_no_pair_is_zero_with_a_graph(student: Tensor, teacher: Tensor) -> None:
    apart = torch.tensor([[0, 1, 2, 3, 4], [-1] * 5])
    for ids in (apart, torch.full((2, 5), -1)):
        loss = SpanKL()(LossInputs(student, teacher, span_ids=ids))
        assert loss.count == 0
        (gradient,) = torch.autograd.grad(loss.mean(), student)
        assert not gradient.any()


def test_spans_do_not_reach_into_the_next_sequence(student: Tensor, teacher: Any) -> None:
    assert SpanKL()(LossInputs(student, teacher, span_ids=torch.zeros(2, 5).long())).count == 8


def test_zero_at_a_match(student: Tensor) -> None:
    loss = SpanKL()(masked(student, student.detach()))
    assert loss.mean().abs() < 1e-12


def test_what_is_wrong_is_named(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="needs `span_ids`, .*, but the inputs have none"):
        SpanKL()(LossInputs(student, teacher))
    with pytest.raises(ValueError, match=r"span_ids \(2, 4\) do not fit the sequences"):
        SpanKL()(LossInputs(student, teacher, span_ids=IDS[:, 1:]))
    with pytest.raises(TypeError, match="span_ids must be integers"):
        SpanKL()(LossInputs(student, teacher, span_ids=IDS.double()))
    with pytest.raises(ValueError, match="distance must be one of"):
        SpanKL(distance="l2")  # type: ignore[arg-type]


def test_a_mixture_has_its_mean(student: Tensor, teacher: Tensor) -> None:
    labels = torch.zeros(2, 5, dtype=torch.long)
    mixture = Weighted({"dac": DACKL(), "span": SpanKL(), "sft": CrossEntropy()})
    inputs = LossInputs(student, teacher, labels, span_ids=IDS)
    loss = mixture(inputs)
    alone = SpanKL()(inputs).mean().detach()
    torch.testing.assert_close(loss.parts["span"] / loss.count, alone)


def test_the_temperature_may_change_and_is_checked(student: Tensor, teacher: Tensor) -> None:
    check_attributes(SpanKL, masked(student, teacher), temperature=3.0)
    check_refused(SpanKL, temperature=0.0)
