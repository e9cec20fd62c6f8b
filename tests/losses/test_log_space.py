"""Probabilities and their logarithms, in float32 or wider."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlight.losses.log_space import (
    log_probs,
    probs,
    shifted,
    sum_terms,
    tempered,
    tempered_pair,
    widen,
    without_impossible,
)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_widened_and_wider_types_are_kept(
    dtype: torch.dtype, expected: torch.dtype
) -> None:
    assert widen(torch.zeros(3, dtype=dtype)).dtype == expected
    with pytest.raises(TypeError, match="floating point, got torch.int64; pass token ids as lab"):
        widen(torch.zeros(3, dtype=torch.long))


def test_a_temperature_divides_before_the_softmax_and_may_be_learned() -> None:
    logits = torch.tensor([0.0, math.log(9.0)], dtype=torch.float64)
    torch.testing.assert_close(probs(logits, 2.0), torch.tensor([0.25, 0.75]).double())
    torch.testing.assert_close(log_probs(logits, 2.0), probs(logits, 2.0).log())
    assert tempered(logits, 1.0) is logits  # no pass over the logits
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(log_probs(logits, temperature)[0], temperature)
    assert grad.item() == pytest.approx(0.75 * math.log(9.0) / 4)


def test_a_temperature_divides_differences_of_logits_far_from_zero() -> None:
    logits = torch.tensor([0.0, 1.0, 3.0])
    for temperature in (3.0, torch.tensor(3.0)):
        assert torch.equal(tempered(logits + 2.0**23, temperature), tempered(logits, temperature))


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_checked_also_as_a_tensor(value: float) -> None:
    for temperature in (value, torch.tensor(value), torch.tensor([1.0, value])):
        with pytest.raises(
            ValueError, match=f"temperature must be above 0 and finite, got {value}"
        ):
            tempered(torch.zeros(2), temperature)


def test_a_forbidden_token_has_no_probability_and_a_nan_spreads_over_its_row() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0], [0.0, torch.nan, 0.0]])
    assert log_probs(logits)[0].tolist() == pytest.approx([-math.log(2), -math.inf, -math.log(2)])
    assert log_probs(logits)[1].isnan().all()


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min, -1e30])
def test_the_lowest_numbers_stand_for_minus_infinity(lowest: float) -> None:
    logits = torch.tensor([[0.0, lowest, 1.0]], dtype=torch.float64, requires_grad=True)
    for values in (log_probs(logits), without_impossible(logits).log_softmax(-1)):
        assert values[0].tolist() == pytest.approx(
            [-math.log(1 + math.e), -math.inf, 1 - math.log(1 + math.e)]
        )
    (grad,) = torch.autograd.grad(log_probs(logits)[0, 1], logits)  # passes as for a number
    assert grad[0].tolist() == pytest.approx([-1 / (1 + math.e), 1.0, -math.e / (1 + math.e)])


# torch loads its forward-mode rules when first used, in an older way
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_log_probabilities_have_both_derivatives() -> None:
    logits = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_probs, logits, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(log_probs, logits)


def test_shifting_makes_the_highest_logit_zero() -> None:
    assert shifted(torch.tensor([[2.0, 5.0], [-1e6, -1e6 - 1]])).tolist() == [[-3, 0], [0, -1]]
    assert shifted(torch.zeros(2, 0)).shape == (2, 0)


def test_a_pair_has_the_wider_of_two_types_and_one_shape() -> None:
    student, teacher = tempered_pair(torch.zeros(2, 3).bfloat16(), torch.zeros(2, 3).double())
    assert (student.dtype, teacher.dtype) == (torch.float64, torch.float64)
    with pytest.raises(ValueError, match=r"vocabularies differ: student \(2, 3\) and teacher \(2,"):
        tempered_pair(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(
        ValueError, match=r"must have one shape \(\.\.\., V\), got student \(2, 3\)"
    ):
        tempered_pair(torch.zeros(2, 3), torch.zeros(1, 3))


def test_a_sum_leaves_out_nan_terms_but_not_a_nan_of_the_network() -> None:
    terms = torch.tensor([[1.0, torch.nan, 2.0], [1.0, torch.nan, 2.0], [torch.inf, 0.0, 1.0]])
    q: Tensor = torch.full((3, 3), 1 / 3)
    p = q.clone()
    p[1] = torch.nan
    total = sum_terms(terms, p, q)
    assert total[0] == 3
    assert total[1].isnan()
    assert total[2] == torch.inf
