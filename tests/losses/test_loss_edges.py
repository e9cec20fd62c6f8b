"""Where the formulas end: forbidden tokens, underflow, no vocabulary, no positions, NaN.

Every edge is decided for the value and for the gradient. "Forbidden" is a logit of -inf, or of the
lowest float, which stands for it in padded vocabularies and masks.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.support import reference
from tests.support.reference import CASES, USUAL

V = 6
LABELS = torch.tensor([2, 5, -100])  # of three positions; column 0 and 3 are those tampered with

each_case = pytest.mark.parametrize(("name", "hyper"), CASES, ids=reference.ids(CASES))
each_loss = pytest.mark.parametrize(("name", "hyper"), USUAL.items(), ids=USUAL)
each_type = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])

# What is infinite by definition, by the side that alone forbids a token.
INFINITE = {
    "student": {
        "forward_kl",
        "symmetric_kl",
        "jensen_shannon-beta=0.0",
        "skew_forward_kl-skew=0.0",
        "adaptive_kl",
        "todi",
        "alpha_beta-alpha=1.0-beta=0.0",
        "alpha_beta-alpha=0.5-beta=0.0",
        "alpha_beta-alpha=0.0-beta=0.0",
        "alpha_beta-alpha=0.5-beta=-0.5",
        "alpha_beta-alpha=0.8-beta=-0.3",
        "balanced_kl",
        "decoupled_kl",
        "taid-t=1.0",
    },
    "teacher": {
        "reverse_kl",
        "symmetric_kl",
        "jensen_shannon-beta=1.0",
        "skew_reverse_kl-skew=0.0",
        "adaptive_kl",
        "todi",
        "alpha_beta-alpha=0.0-beta=1.0",
        "alpha_beta-alpha=0.0-beta=0.5",
        "alpha_beta-alpha=0.0-beta=0.0",
        "alpha_beta-alpha=0.5-beta=-0.5",
        "alpha_beta-alpha=-0.3-beta=0.8",
        "balanced_kl",
    },
}
SILENCED = {  # a weight of 0 on the infinite half
    "student": {"symmetric_kl-forward_weight=0.0", "decoupled_kl-non_target_weight=0.0"},
    "teacher": set(),
}


def is_infinite(name: str, hyper: dict[str, Any], side: str) -> bool:
    (case,) = reference.ids([(name, hyper)])
    return bool({name, case} & INFINITE[side]) and case not in SILENCED[side]


def logits(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 3, V, dtype=torch.float64, generator=generator).unbind()
    return student.to(dtype), teacher.to(dtype)


def sides(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return dict(zip(("student", "teacher"), logits(dtype), strict=True))


def put(inputs: Tensor, value: float, *columns: int) -> Tensor:
    changed = inputs.clone()
    changed[..., list(columns)] = value
    return changed


def evaluate(
    name: str, student: Tensor, teacher: Tensor, labels: Tensor = LABELS, **hyper: Any
) -> tuple[Tensor, ...]:
    """Values, and the gradient of their sum for the student and for the teacher."""
    student, teacher = student.detach().requires_grad_(), teacher.detach().requires_grad_()
    arguments = [labels] if name == "decoupled_kl" else []
    values = getattr(losses, name)(student, teacher, *arguments, **hyper)
    return values.detach(), *torch.autograd.grad(values.sum(), (student, teacher))


def all_close(actual: Any, expected: Any, tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


# Where the exponents cancel no factor decays, and float16's lowest is a number like any other.
DECAYING = [case for case in CASES if case[1].get("alpha", 1.0) + case[1].get("beta", 1.0) != 0]


@pytest.mark.parametrize(
    ("name", "hyper", "lowest"),
    [(*case, lowest) for case in CASES for lowest in (-math.inf, torch.finfo(torch.float32).min)]
    + [(*case, -65504.0) for case in DECAYING],
)
@each_type
def test_a_column_both_forbid_is_outside_the_vocabulary(
    name: str, hyper: dict[str, Any], lowest: float, dtype: torch.dtype
) -> None:
    student, teacher = logits(dtype)
    student, teacher = put(student, lowest, 0, 3), put(teacher, lowest, 0, 3)
    kept = [1, 2, 4, 5]
    values, *slopes = evaluate(name, student, teacher, **hyper)
    labels = torch.tensor([1, 3, -100])  # 2 and 5, counted without 0 and 3
    expected = evaluate(name, student[:, kept], teacher[:, kept], labels, **hyper)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    all_close((values, *(slope[:, kept] for slope in slopes)), expected, tolerance)
    for slope in slopes:
        assert torch.equal(slope[:, [0, 3]], torch.zeros_like(slope[:, [0, 3]]))


@each_case
@each_type
@pytest.mark.parametrize("sides_that_forbid", [("student",), ("teacher",), ("student", "teacher")])
@pytest.mark.parametrize("lowest", [torch.finfo(torch.float32).min, -1e31])
def test_the_lowest_float_is_minus_infinity(
    name: str,
    hyper: dict[str, Any],
    dtype: torch.dtype,
    sides_that_forbid: tuple[str, ...],
    lowest: float,
) -> None:
    results = []
    for low in (lowest, -math.inf):
        pair = sides(dtype)
        pair |= {side: put(pair[side], low, 0, 3) for side in sides_that_forbid}
        results.append(evaluate(name, pair["student"], pair["teacher"], **hyper))
    all_close(results[0], results[1], 1e-12 if dtype == torch.float64 else 1e-6)
    assert all(slope.isfinite().all() for slope in results[0][1:])


@each_case
@each_type
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_column_that_one_side_forbids(
    name: str, hyper: dict[str, Any], dtype: torch.dtype, side: str
) -> None:
    pair = sides(dtype)
    forbidden = {**pair, side: put(pair[side], -math.inf, 0, 3)}
    values, *slopes = evaluate(name, **forbidden, **hyper)
    assert all(slope.isfinite().all() for slope in slopes)
    if is_infinite(name, hyper, side):
        valid = LABELS >= 0 if name == "decoupled_kl" else slice(None)
        assert (values[valid] == math.inf).all()
        return
    low = {
        key: logit.double() for key, logit in {**pair, side: put(pair[side], -600.0, 0, 3)}.items()
    }
    exact = {key: logit.requires_grad_() for key, logit in low.items()}
    expected = reference.per_row(name, **exact, labels=LABELS, **hyper)
    expected_slopes = torch.autograd.grad(expected.sum(), tuple(exact.values()))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    results = [result.double() for result in (values, *slopes)]
    all_close(results, (expected.detach(), *expected_slopes), tolerance)


@each_case
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_lowest_float_forbids_like_minus_infinity(
    name: str, hyper: dict[str, Any], side: str
) -> None:
    pair = sides(torch.float32)
    at_infinity = {**pair, side: put(pair[side], -math.inf, 0, 3)}
    at_lowest = {**pair, side: put(pair[side], torch.finfo(torch.float32).min, 0, 3)}
    values, *expected = evaluate(name, **at_infinity, **hyper)
    huge, *slopes = evaluate(name, **at_lowest, **hyper)
    all_close(slopes, expected, 1e-6)
    infinite = values.isinf()
    all_close([huge[~infinite]], [values[~infinite]], 1e-6)
    assert (huge[infinite] > 1e18).all()  # as far as a float32 goes, in the formula's own power


@each_case
@pytest.mark.parametrize("low", [-110.0, -1e4])
def test_joint_underflow(name: str, hyper: dict[str, Any], low: float) -> None:
    # e^-110 is 0 in float32; the two logits differ, so neither the ratio nor the logs are trivial.
    student, teacher = logits(torch.float32)
    student, teacher = put(student, low, 0), put(teacher, 1.2 * low, 0)
    values, *slopes = evaluate(name, student, teacher, **hyper)
    assert values.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes)
    exact = evaluate(name, student.double(), teacher.double(), **hyper)
    if low > -1e3:
        all_close([r.double() for r in (values, *slopes)], exact, 1e-4)


@each_case
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_probability_of_exactly_zero(name: str, hyper: dict[str, Any], side: str) -> None:
    # 150 nats below: 0 in float32, but not forbidden, so every divergence is finite.
    pair = sides(torch.float32)
    pair[side] = put(pair[side], -150.0 * hyper.get("temperature", 1.0), 0)
    results = evaluate(name, **pair, **hyper)
    assert all(result.isfinite().all() for result in results)
    exact = evaluate(name, pair["student"].double(), pair["teacher"].double(), **hyper)
    all_close([result.double() for result in results], exact, 1e-4)


@each_case
def test_a_vocabulary_of_one_token_has_nothing_to_distil(name: str, hyper: dict[str, Any]) -> None:
    student, teacher = (each[:, :1] for each in logits())
    for result in evaluate(name, student, teacher, torch.tensor([0, 0, -100]), **hyper):
        assert torch.equal(result, torch.zeros_like(result))


@each_case
def test_one_position_without_an_axis_for_it(name: str, hyper: dict[str, Any]) -> None:
    student, teacher = logits()
    expected = evaluate(name, student, teacher, **hyper)
    one = evaluate(name, student[0], teacher[0], LABELS[0], **hyper)
    assert one[0].shape == ()
    all_close(one, [result[0] for result in expected], 1e-12)


@each_case
def test_no_position_gives_no_value_and_a_graph(name: str, hyper: dict[str, Any]) -> None:
    student = torch.zeros(0, V, requires_grad=True)
    labels = [LABELS[:0]] if name == "decoupled_kl" else []
    values = getattr(losses, name)(student, torch.zeros(0, V), *labels, **hyper)
    assert values.shape == (0,)
    values.sum().backward()
    assert student.grad is not None
    assert student.grad.shape == (0, V)


@each_case
@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("column", [0, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_logit_is_not_hidden_and_stays_in_its_row(
    name: str, hyper: dict[str, Any], side: str, column: int, bad: float
) -> None:
    pair = sides()
    expected = evaluate(name, **pair, **hyper)
    pair[side] = pair[side].clone()
    pair[side][1, column] = bad
    results = evaluate(name, **pair, **hyper)
    assert results[0][1].isnan()
    all_close([r[[0, 2]] for r in results], [r[[0, 2]] for r in expected], 0.0)


@each_loss
def test_selected_rows_know_nothing_of_the_others(name: str, hyper: dict[str, Any]) -> None:
    student, teacher = logits()
    expected = evaluate(name, student[:2], teacher[:2], LABELS[:2], **hyper)
    student[2], teacher[2] = math.nan, math.nan
    student, teacher = student.requires_grad_(), teacher.requires_grad_()
    kept = torch.tensor([True, True, False])
    labels = [LABELS[kept]] if name == "decoupled_kl" else []
    values = getattr(losses, name)(student[kept], teacher[kept], *labels, **hyper)
    slopes = torch.autograd.grad(values.sum(), (student, teacher))
    all_close([values.detach(), *(s[:2] for s in slopes)], expected, 1e-12)
    assert all(torch.equal(s[2], torch.zeros(V, dtype=s.dtype)) for s in slopes)


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min])
def test_a_label_that_is_impossible_costs_infinity(lowest: float) -> None:
    student = put(logits()[0], lowest, 2).requires_grad_()
    values = losses.cross_entropy(student, torch.tensor([2, 5, -100]))
    assert values[0] == math.inf
    assert values[2] == 0
    (grad,) = torch.autograd.grad(values.sum(), student)
    assert grad[0, 2] == -1  # as for any other logit
    assert grad.isfinite().all()
    values = losses.unlikelihood(
        put(logits()[0], lowest, 0, 1, 3, 4, 5), torch.tensor([2, 2, -100])
    )
    assert values.tolist() == [math.inf, math.inf, 0.0]
