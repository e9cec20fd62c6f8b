"""Reverse KL of sampled tokens: worked values, tails of a top-k teacher, and what it trains."""

from __future__ import annotations

from math import inf, log

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.sampled_reverse_kl import Estimator
from kdlight.objectives import (
    CrossEntropy,
    ForwardKL,
    LossInputs,
    Objective,
    ReverseKL,
    SampledReverseKL,
    Weighted,
)
from kdlight.sources import TopK
from tests.support.objectives import check_attributes, check_refused, one_position, tempered

P, Q = (0.2, 0.5, 0.3), (0.6, 0.1, 0.3)


def test_worked_values() -> None:
    for label, r in enumerate((0.2 / 0.6, 0.5 / 0.1, 1.0)):
        expected = {"k1": -log(r), "k2": log(r) ** 2 / 2, "k3": r - 1 - log(r)}
        expected["score_function"] = expected["k1"]
        for estimator, value in expected.items():
            objective = SampledReverseKL(estimator=estimator)  # type: ignore[arg-type]
            loss = objective(one_position(Q, P, label))
            assert loss.mean().item() == pytest.approx(value)
            assert loss.parts["log_ratio"].item() == pytest.approx(-log(r))


def test_the_temperature_divides_the_logits_of_both_sides() -> None:
    q, p = tempered(Q, 2.0), tempered(P, 2.0)
    value = SampledReverseKL(temperature=2.0)(one_position(Q, P, 1)).mean().item()
    assert value == pytest.approx(4 * log(q[1] / p[1]) ** 2 / 2)
    plain = SampledReverseKL(temperature=2.0, temperature_squared=False)
    assert plain(one_position(Q, P, 1)).mean().item() == pytest.approx(value / 4)


def over_all_labels(objective: SampledReverseKL, student: Tensor, teacher: Tensor | TopK) -> Tensor:
    """The mean over draws: each token is the label of one row, with its probability as weight."""
    vocabulary = student.shape[-1]
    rows = (
        teacher.select(torch.zeros(vocabulary, dtype=torch.long))
        if isinstance(teacher, TopK)
        else teacher.expand(vocabulary, -1)
    )
    weights = student.detach().softmax(-1)[0]
    losses_of_rows = [
        objective(LossInputs(student, rows_of(rows, v), torch.tensor([v]))).total
        for v in range(vocabulary)
    ]
    return (weights * torch.stack(losses_of_rows)).sum()


def rows_of(rows: Tensor | TopK, v: int) -> Tensor | TopK:
    return rows.select(slice(v, v + 1)) if isinstance(rows, TopK) else rows[v : v + 1]


@pytest.mark.parametrize("estimator", ["k2", "score_function"])
@pytest.mark.parametrize("k", [None, 1, 3])
def test_the_mean_over_draws_is_reverse_kl_over_the_known_tokens_and_the_tail(
    estimator: Estimator, k: int | None, student: Tensor, teacher: Tensor
) -> None:
    """Also of a teacher whose top k alone is known, where a label is in the tail."""
    student = student[0, :1].detach().requires_grad_()
    dense = teacher[0, :1]
    source = dense if k is None else TopK.of(dense, k)
    mean = over_all_labels(SampledReverseKL(estimator=estimator), student, source)
    if k is None:
        expected = losses.reverse_kl(student, dense).sum()
    else:
        ids = dense.topk(k, -1).indices
        log_p = dense.log_softmax(-1).gather(-1, ids)
        expected = losses.topk_reverse_kl(student, ids, log_p).sum()
        assert expected < losses.reverse_kl(student, dense).sum()
    if estimator == "score_function":
        torch.testing.assert_close(mean, expected)
    gradients = [torch.autograd.grad(each, student)[0] for each in (mean, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_a_label_in_a_tail_that_is_cut_off_is_infinite() -> None:
    teacher = torch.tensor([[3.0, 0.0, 0.0]])
    source = TopK.of(teacher, 1, tail="renormalise")
    student = torch.zeros(1, 3, requires_grad=True)
    loss = SampledReverseKL()(LossInputs(student, source, torch.tensor([2])))
    assert loss.total == inf
    assert torch.autograd.grad(loss.total, student)[0].isfinite().all()


def test_an_ignored_label_counts_nothing_and_another_one_is_an_error(inputs: LossInputs) -> None:
    assert inputs.teacher is not None
    assert inputs.labels is not None
    unmasked = LossInputs(inputs.student, inputs.teacher, inputs.labels)
    torch.testing.assert_close(SampledReverseKL()(unmasked).total, SampledReverseKL()(inputs).total)
    wrong = LossInputs(inputs.student, inputs.teacher, inputs.labels + 7, inputs.mask)
    with pytest.raises(RuntimeError, match="out of bounds"):
        SampledReverseKL()(wrong)


def test_hyper_parameters_may_change_and_are_checked(inputs: LossInputs) -> None:
    check_attributes(SampledReverseKL, inputs, temperature=3.0)
    check_refused(SampledReverseKL, temperature=0.0)
    with pytest.raises(ValueError, match="estimator must be one of .*got 'k4'"):
        SampledReverseKL(estimator="k4")  # type: ignore[arg-type]


def test_it_is_a_term_of_a_mixture(inputs: LossInputs) -> None:
    mixture = Weighted({"kd": SampledReverseKL(), "ce": CrossEntropy()}, weights={"ce": 0.5})
    loss = mixture(inputs)
    alone = SampledReverseKL()(inputs)
    torch.testing.assert_close(loss.total, alone.total + 0.5 * CrossEntropy()(inputs).total)
    torch.testing.assert_close(loss.parts["kd/log_ratio"], alone.parts["log_ratio"])


PLACES = torch.linspace(-4, 4, 41)


def fitted_bell(objective: Objective) -> Tensor:
    """Mean and log width of a bell that is fitted to two modes, on tokens of its own."""
    modes = (-2 * (PLACES - 2).square(), -2 * (PLACES + 2).square() - 0.5)
    teacher = torch.logaddexp(*modes).expand(256, -1)
    bell = torch.tensor([1.5, 0.0], requires_grad=True)
    optimizer = torch.optim.Adam([bell], lr=0.02)
    for _ in range(400):
        logits = (-((PLACES - bell[0]) / bell[1].exp()).square() / 2).expand(256, -1)
        drawn = torch.distributions.Categorical(logits=logits.detach()).sample()
        optimizer.zero_grad()
        objective(LossInputs(logits, teacher, drawn)).mean().backward()
        optimizer.step()
    return bell.detach()


def test_on_tokens_of_the_student_only_the_right_gradients_train_as_reverse_kl() -> None:
    one_mode, both_modes = fitted_bell(ReverseKL()), fitted_bell(ForwardKL())
    assert one_mode[0] > 1.8
    assert (both_modes - one_mode).abs().max() > 0.5
    for estimator in ("k2", "score_function"):
        found = fitted_bell(SampledReverseKL(estimator=estimator))
        assert (found - one_mode).abs().max() < 0.15
    assert (fitted_bell(SampledReverseKL(estimator="k3")) - both_modes).abs().max() < 0.15
    assert (fitted_bell(SampledReverseKL(estimator="k1")) - one_mode).abs().max() > 0.5


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "score_function"])
def test_an_evaluation_has_the_exact_value_whatever_the_labels_are(
    estimator: Estimator, inputs: LossInputs
) -> None:
    assert inputs.labels is not None
    exact = ReverseKL(temperature=2.0)(inputs)
    objective = SampledReverseKL(estimator=estimator, temperature=2.0).eval()
    for labels in (inputs.labels, torch.zeros_like(inputs.labels)):
        made = LossInputs(inputs.student, inputs.teacher, labels, inputs.mask)
        loss = objective(made)
        torch.testing.assert_close(loss.total, exact.total)
        torch.testing.assert_close(loss.parts["log_ratio"], exact.total.detach() / 4)
