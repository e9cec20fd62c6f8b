"""Estimators of the reverse KL: what is unbiased, over draws and exactly, as the docstring says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.sampled_reverse_kl import ESTIMATORS, Estimator, checked_log_probs

DRAWS = 100_000
# logits of student and teacher
PAIRS = {
    "close": ([0.0, 0.5, -0.5, 1.0], [0.1, 0.4, -0.6, 1.2]),
    "apart": ([0.0, 1.0, -1.0, 0.5, 0.3], [1.5, -1.0, 0.0, 0.2, -0.7]),
    "a confident student": ([3.0, 0.0, 0.0], [0.5, 1.0, 0.0]),
    "a confident teacher": ([0.0, 0.2, 0.0, -0.2], [4.0, 0.0, 0.0, 0.0]),
}
each_pair = pytest.mark.parametrize("pair", PAIRS)
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


def logits(pair: str) -> tuple[Tensor, Tensor]:
    student, teacher = (torch.tensor(row, dtype=torch.float64) for row in PAIRS[pair])
    return student.requires_grad_(), teacher


def exact(
    divergence: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor
) -> tuple[Tensor, Tensor]:
    value = divergence(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


def mean_over_all_tokens(
    estimator: Estimator, student: Tensor, teacher: Tensor, old: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean over draws without drawing: each token once, with its probability as the weight."""
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    log_old = None if old is None else old.log_softmax(-1)
    values = losses.sampled_reverse_kl(log_q, log_p, estimator=estimator, old_log_probs=log_old)
    weights = (log_q if log_old is None else log_old).exp().detach()
    mean = (weights * values).sum()
    return mean.detach(), torch.autograd.grad(mean, student)[0]


def draw(estimator: Estimator, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Values ``(n,)`` of tokens that are drawn, and the gradient ``(n, V)`` of each in logits."""
    torch.manual_seed(1)
    tokens = torch.distributions.Categorical(logits=student.detach()).sample((DRAWS,))
    log_q = student.detach().log_softmax(-1)[tokens].requires_grad_()
    log_p = teacher.log_softmax(-1)[tokens]
    values = losses.sampled_reverse_kl(log_q, log_p, estimator=estimator)
    (slopes,) = torch.autograd.grad(values.sum(), log_q)
    one_hot = torch.nn.functional.one_hot(tokens, len(student))
    return values.detach(), slopes[:, None] * (one_hot - student.detach().softmax(-1))


def standard_errors_off(samples: Tensor, expected: Tensor) -> float:
    """The largest distance of the mean from what is expected, in standard errors."""
    error = samples.std(0) / math.sqrt(len(samples))
    return ((samples.mean(0) - expected).abs() / error).max().item()


@each_pair
@pytest.mark.parametrize("estimator", ["k1", "k3", "score_function"])
def test_the_mean_of_many_draws_is_the_reverse_kl(estimator: Estimator, pair: str) -> None:
    student, teacher = logits(pair)
    values, _ = draw(estimator, student, teacher)
    assert standard_errors_off(values, exact(losses.reverse_kl, student, teacher)[0]) < 3


@pytest.mark.parametrize("pair", ["apart", "a confident student", "a confident teacher"])
def test_the_mean_of_k2_is_not(pair: str) -> None:
    student, teacher = logits(pair)
    values, _ = draw("k2", student, teacher)
    assert standard_errors_off(values, exact(losses.reverse_kl, student, teacher)[0]) > 20


@each_pair
@pytest.mark.parametrize("estimator", ["k2", "score_function"])
def test_the_mean_gradient_of_many_draws_is_that_of_the_reverse_kl(
    estimator: Estimator, pair: str
) -> None:
    student, teacher = logits(pair)
    _, gradients = draw(estimator, student, teacher)
    assert standard_errors_off(gradients, exact(losses.reverse_kl, student, teacher)[1]) < 3


@pytest.mark.parametrize("pair", ["apart", "a confident student", "a confident teacher"])
def test_the_gradients_of_k1_and_k3_are_others(pair: str) -> None:
    student, teacher = logits(pair)
    reverse = exact(losses.reverse_kl, student, teacher)[1]
    forward = exact(losses.forward_kl, student, teacher)[1]
    for estimator, mean in (("k1", torch.zeros_like(student)), ("k3", forward)):
        _, gradients = draw(estimator, student, teacher)  # type: ignore[arg-type]
        assert standard_errors_off(gradients, mean) < 3
        assert standard_errors_off(gradients, reverse) > 20


@each_pair
@each_estimator
def test_the_means_without_drawing_are_those_of_the_table(estimator: Estimator, pair: str) -> None:
    """And the table of the docstring is read, so that it cannot say anything else."""
    student, teacher = logits(pair)
    reverse, forward = (
        exact(each, student, teacher) for each in (losses.reverse_kl, losses.forward_kl)
    )
    value, gradient = mean_over_all_tokens(estimator, student, teacher)
    line = re.search(rf"^ *``{estimator}`` (.*)$", losses.sampled_reverse_kl.__doc__ or "", re.M)
    assert line is not None
    value_is_right, gradient_is_right, words = re.split(r"  +", line[1].strip())
    assert ((value - reverse[0]).abs() < 1e-12) == (value_is_right == "yes")
    assert ((gradient - reverse[1]).abs().max() < 1e-12) == (gradient_is_right == "yes")
    mean = {"0": 0 * reverse[1], "KL(q || p)": reverse[1], "KL(p || q)": forward[1]}
    (named,) = (name for name in mean if words.removeprefix("that of ").startswith(name))
    torch.testing.assert_close(gradient, mean[named], rtol=1e-12, atol=1e-12)


@each_estimator
def test_tokens_of_an_older_student_have_the_same_means(estimator: Estimator) -> None:
    student, teacher = logits("apart")
    old = torch.tensor([0.5, -0.2, 0.9, 0.0, 0.1], dtype=torch.float64)
    means = mean_over_all_tokens(estimator, student, teacher, old)
    expected = mean_over_all_tokens(estimator, student, teacher)
    torch.testing.assert_close(means, expected, rtol=1e-12, atol=1e-12)
    same = mean_over_all_tokens(estimator, student, teacher, student.detach())
    torch.testing.assert_close(same, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("estimator", "unbiased"), [*zip(ESTIMATORS, (1, 0, 1, 1), strict=True)])
def test_the_gradient_of_a_teacher_that_is_trained_too(estimator: str, unbiased: int) -> None:
    student, teacher = logits("apart")
    student, teacher = student.detach(), teacher.requires_grad_()
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    values = losses.sampled_reverse_kl(log_q, log_p, estimator=estimator)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad((log_q.exp() * values).sum(), teacher)
    (expected,) = torch.autograd.grad(losses.reverse_kl(student, teacher), teacher)
    assert ((gradient - expected).abs().max() < 1e-12) == bool(unbiased)


def test_k3_keeps_its_digits_where_both_are_close() -> None:
    log_q = torch.tensor([0.5]).log()
    value = losses.sampled_reverse_kl(log_q, log_q + 1e-4, estimator="k3")
    expected = losses.sampled_reverse_kl(log_q.double(), (log_q + 1e-4).double(), estimator="k3")
    torch.testing.assert_close(value.double(), expected, rtol=1e-2, atol=0)


@each_estimator
def test_an_impossible_token_costs_infinity_and_has_no_gradient(estimator: Estimator) -> None:
    log_q = torch.tensor([0.5, 0.0, 0.0, 0.5]).log().requires_grad_()
    log_p = torch.tensor([0.0, 0.5, 0.0, 0.25]).log().requires_grad_()
    values = losses.sampled_reverse_kl(log_q, log_p, estimator=estimator)
    assert values[:3].tolist() == [math.inf] * 3
    assert values[3].isfinite()
    for gradient in torch.autograd.grad(values.sum(), (log_q, log_p)):
        assert gradient[:3].tolist() == [0.0] * 3
        assert gradient.isfinite().all()


@each_estimator
def test_nan_stays_visible_and_half_precision_is_widened(estimator: Estimator) -> None:
    log_q, log_p = torch.tensor([-1.0, math.nan]), torch.tensor([-2.0, -1.0])
    values = losses.sampled_reverse_kl(log_q, log_p, estimator=estimator)
    assert values.isnan().tolist() == [False, True]
    half = losses.sampled_reverse_kl(log_q.half(), log_p.double(), estimator=estimator)
    assert half.dtype == torch.float64


def test_bad_input_is_named() -> None:
    fine = torch.tensor([-1.0, -2.0])
    with pytest.raises(ValueError, match="estimator must be one of 'k1', .* got 'k4'"):
        losses.sampled_reverse_kl(fine, fine, estimator="k4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"and teacher_log_probs must .* \(2,\) and \(1,\)"):
        losses.sampled_reverse_kl(fine, fine[:1])
    never = torch.tensor([-torch.inf, -torch.inf])
    values = losses.sampled_reverse_kl(never, fine, old_log_probs=fine)
    assert values.tolist() == [torch.inf] * 2
    with pytest.raises(ValueError, match=r"and old_log_probs must .* \(2,\) and \(1,\)"):
        losses.sampled_reverse_kl(fine, fine, old_log_probs=fine[:1])
    with pytest.raises(ValueError, match=r"student_log_probs must be logarithms .*, got 3\.0"):
        losses.sampled_reverse_kl(torch.tensor([-1.0, 3.0]), fine)
    with pytest.raises(ValueError, match=r"teacher_log_probs must be logarithms .*, got 0\.5"):
        losses.sampled_reverse_kl(fine, fine.exp().fill_(0.5))
    with pytest.raises(TypeError, match="floating point"):
        losses.sampled_reverse_kl(fine.long(), fine)


def test_what_cannot_be_read_becomes_nan() -> None:
    mapped = torch.func.vmap(lambda each: checked_log_probs("x", each))(torch.tensor([-1.0, 1.0]))
    assert mapped.isnan().tolist() == [False, True]
