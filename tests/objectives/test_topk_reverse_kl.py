"""Top-k reverse KL: worked values, and teachers that are known at some tokens only."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import losses
from kdlight.objectives import CrossEntropy, LossInputs, ReverseKL, TopKReverseKL, Weighted
from kdlight.reduce import Chunking
from kdlight.sources import Dense, Projected, TopK
from kdlight.sources.stacked import stack
from tests.support.objectives import check_attributes, check_refused, one_position, tempered

P, Q = (0.5, 0.1, 0.15, 0.25), (0.3, 0.2, 0.4, 0.1)


def reverse(q: list[float], p: list[float]) -> float:
    return sum(b * log(b / a) for a, b in zip(p, q, strict=True))


def test_the_tokens_are_the_most_likely_of_the_student() -> None:
    value = TopKReverseKL(k=2)(one_position(Q, P)).mean().item()
    assert value == pytest.approx(reverse([0.4, 0.3, 0.3], [0.15, 0.5, 0.35]))


def test_the_temperature_divides_the_logits_of_both_sides() -> None:
    q, p = tempered(Q, 2.0), tempered(P, 2.0)
    value = TopKReverseKL(k=2, temperature=2.0)(one_position(Q, P)).mean().item()
    expected = reverse([q[2], q[0], q[1] + q[3]], [p[2], p[0], p[1] + p[3]])
    assert value == pytest.approx(4 * expected)


@pytest.mark.parametrize("k", [6, 7, 50])
def test_all_tokens_are_reverse_kl(k: int, inputs: LossInputs) -> None:
    torch.testing.assert_close(TopKReverseKL(k=k)(inputs).total, ReverseKL()(inputs).total)


def known(student: Tensor, teacher: Tensor, k: int) -> TopK:
    """The teacher's log-probabilities at the student's top k, as a server that is asked for them.

    Their ids are in increasing order.
    """
    ids = student.detach().topk(k, -1).indices.sort(-1).values
    log_p = teacher.log_softmax(-1)
    tail = log_p.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return TopK(ids, log_p.gather(-1, ids), teacher.shape[-1], log_tail=tail)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("chunked", [False, Chunking(tokens=3, block=2)])
def test_a_source_that_knows_the_tokens_of_the_student_gives_the_loss_of_a_live_teacher(
    temperature: float, chunked: bool | Chunking, student: Tensor, teacher: Tensor
) -> None:
    """The tail, too, has the probability of the live one; at another temperature it is guessed."""
    mask = torch.arange(10).view(2, 5) % 3 > 0
    objective = TopKReverseKL(k=3, temperature=temperature)
    losses_of = [
        objective(LossInputs(student, source, mask=mask, chunked=chunked))
        for source in (teacher, known(student, teacher, 3))
    ]
    if temperature == 1.0:
        torch.testing.assert_close(losses_of[1].total, losses_of[0].total)
        gradients = [torch.autograd.grad(loss.total, student)[0] for loss in losses_of]
        torch.testing.assert_close(*gradients)
    assert losses_of[0].count == losses_of[1].count == mask.sum()
    torch.testing.assert_close(losses_of[1].total, losses_of[0].total, rtol=0.1, atol=0.0)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_exactly_the_known_tokens_are_compared_whatever_k_is(
    k: int, student: Tensor, teacher: Tensor
) -> None:
    """Also where they are not the student's most likely ones now."""
    old = student.detach() + torch.randn_like(student)
    source = known(old, teacher, 3)
    loss = TopKReverseKL(k=k)(LossInputs(student, source)).total
    expected = losses.topk_reverse_kl(student, source.ids, source.log_probs, source.log_tail).sum()
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each, student)[0] for each in (loss, expected)]
    torch.testing.assert_close(*gradients)
    assert (gradients[0].abs().amax(-1) > 1e-4).all()


def test_a_mixture_and_rows_of_several_teachers_compare_the_same(
    student: Tensor, teacher: Tensor
) -> None:
    source = known(student + 1.0 * torch.randn_like(student), teacher, 3)
    labels = torch.zeros(2, 5, dtype=torch.long)
    alone = TopKReverseKL(k=2)(LossInputs(student, source)).total
    mixture = Weighted({"kd": TopKReverseKL(k=2), "ce": CrossEntropy()}, weights={"ce": 0.0})
    torch.testing.assert_close(mixture(LossInputs(student, source, labels)).total, alone)
    rows = [torch.tensor([1]), torch.tensor([0])]
    sources = [source.select(slice(5 * (1 - i), 5 * (2 - i))) for i in range(2)]
    stacked = stack(sources, rows, torch.Size([2, 5]), torch.device("cpu"))
    torch.testing.assert_close(TopKReverseKL(k=2)(LossInputs(student, stacked)).total, alone)


def test_hidden_states_on_both_sides_give_what_their_logits_give() -> None:
    heads = [nn.Linear(3, 9).double() for _ in range(2)]
    states = torch.randn(2, 8, 3).double()
    ours, theirs = (Projected(*each) for each in zip(states, heads, strict=True))
    dense = LossInputs(Dense(ours.logits().detach()), Dense(theirs.logits().detach()))
    loss = TopKReverseKL(k=2)(LossInputs(ours, theirs, chunked=False)).total
    torch.testing.assert_close(loss, TopKReverseKL(k=2)(dense).total)


def test_hyper_parameters_may_change_and_are_checked(inputs: LossInputs) -> None:
    check_attributes(TopKReverseKL, inputs, temperature=3.0)
    check_attributes(lambda k=50: TopKReverseKL(k=k), inputs, k=1)
    check_refused(TopKReverseKL, k=0)
    check_refused(TopKReverseKL, temperature=0.0)


@pytest.mark.parametrize("k", [2.7, True, "5", float("inf")])
def test_a_k_that_is_no_integer_is_refused(k: Any) -> None:
    with pytest.raises(TypeError, match="k must be an integer"):
        TopKReverseKL(k=k)
