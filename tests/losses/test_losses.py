"""The losses against their slow references, their laws, and what they say to bad input."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from kdlight import losses
from tests.support import reference
from tests.support.reference import CASES, STOPS_A_GRADIENT, USUAL

LABELS = torch.tensor([[0, 3, -100, 6, 1], [5, 5, 2, -100, 4]])  # for the shared (2, 5, 7) logits

each_case = pytest.mark.parametrize(("name", "hyper"), CASES, ids=reference.ids(CASES))
each_loss = pytest.mark.parametrize(("name", "hyper"), USUAL.items(), ids=USUAL)


def call(name: str, student: Tensor, teacher: Tensor, **hyper: Any) -> Tensor:
    labels = [LABELS] if name == "decoupled_kl" else []
    return getattr(losses, name)(student, teacher, *labels, **hyper)


def leaf(logits: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return logits.detach().to(dtype).requires_grad_()


def evaluate(name: str, student: Tensor, teacher: Tensor, **hyper: Any) -> tuple[Tensor, ...]:
    """The values, and the gradients of an uneven sum of them for student and teacher."""
    values = call(name, student, teacher, **hyper)
    return values.detach(), *gradients(values, student, teacher)


def gradients(values: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(0.5, 1.5, values.numel(), dtype=values.dtype).view(values.shape)
    return torch.autograd.grad((weights * values).sum(), inputs)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )


@each_case
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
def test_value_and_both_gradients_are_the_references(
    student: Tensor,
    teacher: Tensor,
    name: str,
    hyper: dict[str, Any],
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    student, teacher = leaf(3 * student, dtype), leaf(3 * teacher, dtype)
    exact = leaf(student), leaf(teacher)
    expected = reference.per_row(name, *exact, LABELS, **hyper)
    values, *slopes = evaluate(name, student, teacher, **hyper)
    assert values.dtype == dtype
    close(values, expected.detach(), tolerance)
    for slope, expected_slope in zip(slopes, gradients(expected, *exact), strict=True):
        close(slope, expected_slope, tolerance)


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_before_anything_else(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any], dtype: torch.dtype
) -> None:
    student, teacher = leaf(student, dtype), leaf(teacher, dtype)
    values, *slopes = evaluate(name, student, teacher, **hyper)
    expected, *expected_slopes = evaluate(name, leaf(student), leaf(teacher), **hyper)
    assert values.dtype == torch.float32
    close(values, expected, 2e-6)
    for slope, expected_slope in zip(slopes, expected_slopes, strict=True):
        assert slope.dtype == dtype
        close(slope, expected_slope, torch.finfo(dtype).eps)


@each_loss
def test_student_and_teacher_may_differ_in_type(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    values, slope, _ = evaluate(name, leaf(student, torch.bfloat16), leaf(teacher), **hyper)
    expected, *_ = evaluate(name, leaf(student.bfloat16()), leaf(teacher), **hyper)
    assert (values.dtype, slope.dtype) == (torch.float64, torch.bfloat16)
    close(values, expected, 1e-12)


@each_loss
def test_autocast_does_not_narrow(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    student, teacher = leaf(student, torch.float32), leaf(teacher, torch.float32)
    plain = evaluate(name, student, teacher, **hyper)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = evaluate(name, student, teacher, **hyper)
    for actual, expected in zip(inside, plain, strict=True):
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)


@each_case
def test_a_shift_of_a_row_changes_nothing(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    student, teacher = leaf(student), leaf(teacher)
    shift = torch.linspace(-30, 30, 10, dtype=torch.float64).view(2, 5, 1)
    plain = evaluate(name, student, teacher, **hyper)
    shifted = evaluate(name, leaf(student + shift), leaf(teacher - 2 * shift), **hyper)
    for actual, expected in zip(shifted, plain, strict=True):
        close(actual, expected, 1e-10)


@each_case
@pytest.mark.parametrize("offset", [1e4, -1e6])
def test_logits_far_from_zero_lose_no_digit(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any], offset: float
) -> None:
    """Against the reference in float64 of the same float32 logits."""
    low, far = leaf(student + offset, torch.float32), leaf(teacher - offset, torch.float32)
    exact = leaf(low), leaf(far)
    expected = reference.per_row(name, *exact, LABELS, **hyper)
    values, *slopes = evaluate(name, low, far, **hyper)
    close(values, expected.detach(), 1e-5)
    for slope, expected_slope in zip(slopes, gradients(expected, *exact), strict=True):
        close(slope, expected_slope, 1e-5)


@each_case
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_forward_mode_has_the_derivative_of_reverse_mode(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    tangents = torch.randn_like(student), torch.randn_like(teacher)
    results = torch.func.jvp(partial(call, name, **hyper), (student, teacher), tangents)
    values, along = results[:2]
    student, teacher = leaf(student), leaf(teacher)
    slopes = torch.autograd.grad(call(name, student, teacher, **hyper).sum(), (student, teacher))
    expected = sum((slope * t).sum() for slope, t in zip(slopes, tangents, strict=True))
    close(along.sum(), torch.as_tensor(expected), 1e-12)
    assert torch.equal(values, call(name, student, teacher, **hyper).detach())


@each_case
def test_the_order_of_the_vocabulary_does_not_matter(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    student, teacher = leaf(student), leaf(teacher)
    values, *slopes = evaluate(name, student, teacher, **hyper)
    moved = leaf(student[..., order]), leaf(teacher[..., order])
    place = order.argsort()
    labels = torch.where(LABELS < 0, LABELS, place[LABELS.clamp(min=0)])
    arguments = [labels] if name == "decoupled_kl" else []
    permuted = getattr(losses, name)(*moved, *arguments, **hyper)
    close(permuted, values, 1e-12)
    for slope, expected in zip(gradients(permuted, *moved), slopes, strict=True):
        close(slope, expected[..., order], 1e-12)


@each_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_zero_and_without_gradient_at_a_match(
    student: Tensor, name: str, hyper: dict[str, Any], dtype: torch.dtype
) -> None:
    student = leaf(3 * student, dtype)
    values, *slopes = evaluate(name, student, leaf(student, dtype), **hyper)
    assert values.abs().max() <= 1e-7
    scale = 1.0 if name != "decoupled_kl" else hyper.get("non_target_weight", 8.0) + 1
    for slope in slopes:
        assert slope.abs().max() <= 4 * scale * torch.finfo(dtype).eps


@each_case
def test_never_negative(generator: torch.Generator, name: str, hyper: dict[str, Any]) -> None:
    scale = torch.logspace(-6, 1, 10, dtype=torch.float64).view(2, 5, 1)
    teacher = 3 * torch.randn(2, 5, 7, dtype=torch.float64, generator=generator)
    student = teacher + scale * torch.randn(2, 5, 7, dtype=torch.float64, generator=generator)
    assert call(name, student, teacher, **hyper).min() >= -1e-15
    assert call(name, student.float(), teacher.float(), **hyper).min() >= -1e-6


@pytest.mark.parametrize(
    ("name", "hyper"),
    [case for case in CASES if case[0] not in STOPS_A_GRADIENT],
    ids=reference.ids([case for case in CASES if case[0] not in STOPS_A_GRADIENT]),
)
def test_gradcheck_first_and_second(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    function = partial(call, name, **hyper)
    assert gradcheck(function, (leaf(student), leaf(teacher)))
    assert gradgradcheck(function, (leaf(student), leaf(teacher)))


@each_case
def test_torch_func_gives_the_same_gradient_for_the_batch_and_for_each_sample(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    student, teacher = leaf(student), teacher.detach()
    (expected,) = torch.autograd.grad(call(name, student, teacher, **hyper).sum(), student)
    function = torch.func.grad(lambda student, teacher: call(name, student, teacher, **hyper).sum())
    close(function(student.detach(), teacher), expected, 1e-12)
    if name == "decoupled_kl":
        labels = LABELS

        def one(student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
            return losses.decoupled_kl(student, teacher, label, **hyper)
    else:
        labels = torch.zeros_like(LABELS)

        def one(student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
            return getattr(losses, name)(student, teacher, **hyper)

    rows = student.detach().flatten(0, 1), teacher.flatten(0, 1), labels.flatten()
    each = torch.func.vmap(torch.func.grad(one))(*rows)
    close(each.view_as(expected), expected, 1e-12)


@each_case
def test_inputs_are_left_as_they_were(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    student, teacher = leaf(student), leaf(teacher)
    before = student.detach().clone(), teacher.detach().clone()
    evaluate(name, student, teacher, **hyper)
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "jensen_shannon", "alpha_beta", "todi"]
)
def test_a_temperature_may_be_learned(student: Tensor, teacher: Tensor, name: str) -> None:
    temperature = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    values = call(name, student, teacher, temperature=temperature)
    close(values, call(name, student, teacher, temperature=2.0), 1e-12)
    (slope,) = torch.autograd.grad(values.sum(), temperature)
    step = 1e-6
    above, below = (call(name, student, teacher, temperature=2.0 + h).sum() for h in (step, -step))
    if name not in STOPS_A_GRADIENT:
        close(slope, ((above - below) / (2 * step)).detach(), 1e-6)


def test_the_ends_of_each_dial(student: Tensor, teacher: Tensor) -> None:
    student = student.detach()
    forward = losses.forward_kl(student, teacher)
    reverse = losses.reverse_kl(student, teacher)
    for actual, expected in (
        (losses.symmetric_kl(student, teacher, forward_weight=1.0), forward),
        (losses.symmetric_kl(student, teacher, forward_weight=0.0), reverse),
        (losses.jensen_shannon(student, teacher, beta=0.0), forward),
        (losses.jensen_shannon(student, teacher, beta=1.0), reverse),
        (losses.skew_forward_kl(student, teacher, skew=0.0), forward),
        (losses.skew_reverse_kl(student, teacher, skew=0.0), reverse),
        (losses.alpha_beta(student, teacher, alpha=1.0, beta=0.0), forward),
        (losses.alpha_beta(student, teacher, alpha=0.0, beta=1.0), reverse),
        (losses.taid(student, teacher, t=1.0), forward),
        (losses.todi(student, teacher), forward + reverse),
    ):
        close(actual, expected, 1e-12)


BAD: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("forward_kl", {"temperature": 0.0}, "temperature must be above 0 and finite, got 0.0"),
    ("reverse_kl", {"temperature": -1.0}, "temperature .* got -1.0"),
    ("total_variation", {"temperature": float("inf")}, "temperature .* got inf"),
    ("todi", {"temperature": float("nan")}, "temperature .* got nan"),
    ("symmetric_kl", {"forward_weight": 1.1}, r"forward_weight must be in \[0.0, 1.0\], got 1.1"),
    ("jensen_shannon", {"beta": -0.1}, "beta .* got -0.1"),
    ("skew_forward_kl", {"skew": 1.0}, r"skew must be in \[0.0, 1.0\), got 1.0"),
    ("skew_reverse_kl", {"skew": -0.5}, "skew .* got -0.5"),
    ("adaptive_kl", {"head_mass": 2}, "head_mass .* got 2"),
    ("alpha_beta", {"alpha": float("inf")}, "alpha must be a finite number, got inf"),
    ("alpha_beta", {"beta": float("nan")}, "beta must be a finite number, got nan"),
    ("decoupled_kl", {"target_weight": -1.0}, "target_weight .* got -1.0"),
    ("decoupled_kl", {"non_target_weight": float("nan")}, "non_target_weight .* got nan"),
    ("taid", {"t": 1.5}, r"t must be in \[0.0, 1.0\], got 1.5"),
    ("taid", {"t": float("nan")}, "t .* got nan"),
)


@pytest.mark.parametrize(("name", "hyper", "message"), BAD)
def test_a_number_out_of_range_is_refused(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, student, teacher, **hyper)


@each_loss
def test_shapes_that_do_not_fit_are_refused(
    student: Tensor, teacher: Tensor, name: str, hyper: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"vocabularies differ: student \(2, 5, 7\) .*\(2, 5, 6\)"):
        call(name, student, teacher[..., :6], **hyper)
    with pytest.raises(ValueError, match=r"one shape .*\(2, 5, 7\) and teacher \(2, 4, 7\)"):
        call(name, student, teacher[:, :4], **hyper)
    with pytest.raises(ValueError, match="0-d"):
        call(name, student.sum(), teacher.sum(), **hyper)
    with pytest.raises(TypeError, match="floating point, got torch.int64"):
        call(name, student, teacher.long(), **hyper)
