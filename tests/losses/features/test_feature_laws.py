"""What holds for all losses on features, against their slow references."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.losses.features.functions import FUNCTIONS, call, close, evaluate, inputs
from tests.losses.features.reference import CASES, REFERENCE, Case

each_case = pytest.mark.parametrize("case", CASES, ids=str)

# What depends on neither the scale of the student nor that of the teacher.
SCALE_FREE = {
    "attention_transfer",
    "inter_channel_correlation",
    "linear_cka",
    "relational_angle",
    "relational_distance",
    "similarity_preserving",
}
IN_A_BATCH = {"linear_cka", "relational_angle", "relational_distance", "similarity_preserving"}


def scale_free(case: Case) -> bool:
    return case.name in SCALE_FREE or case.options.get("kind") in ("cosine", "normalized_mse")


@pytest.fixture
def _reset_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_every_loss_has_a_reference_and_a_case() -> None:
    assert set(FUNCTIONS) == set(REFERENCE) == {case.name for case in CASES}


@each_case
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=["f64", "f32"]
)
def test_the_value_is_the_references(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    student, teacher = inputs(case, dtype)
    values = call(case, student, teacher)
    assert values.dtype == dtype
    expected = REFERENCE[case.name](
        student.double().numpy(), teacher.double().numpy(), **case.options
    )
    close(values, torch.as_tensor(expected), tolerance)


@each_case
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_both_gradients_are_the_slopes(case: Case) -> None:
    student, teacher = (x.requires_grad_() for x in inputs(case))
    assert gradcheck(
        lambda s, t: call(case, s, t), (student, teacher), check_forward_ad=True, atol=1e-6
    )
    assert gradgradcheck(
        lambda s, t: call(case, s, t), (student, teacher), atol=1e-5, fast_mode=True
    )


@each_case
def test_a_match_is_the_best_value_with_no_slope(case: Case) -> None:
    student, _ = inputs(case)
    values, *slopes = evaluate(case, student, student)
    best = 1.0 if case.name == "linear_cka" else 0.0
    close(values, torch.full_like(values, best), 1e-13)
    for slope in slopes:
        close(slope, torch.zeros_like(slope), 1e-12)
    other = call(case, *inputs(case))
    assert (other < best - 1e-3 if best else other > 1e-6).any()


@each_case
def test_a_teacher_without_a_graph_gets_none(case: Case) -> None:
    student, teacher = inputs(case)
    expected = evaluate(case, student, teacher)
    student.requires_grad_()
    call(case, student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    with torch.no_grad():
        assert torch.equal(call(case, student, teacher), expected[0])


@each_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_before_anything_else(case: Case, dtype: torch.dtype) -> None:
    student, teacher = inputs(case, dtype)
    values, *slopes = evaluate(case, student, teacher)
    expected, *expected_slopes = evaluate(case, student.double(), teacher.double())
    assert values.dtype == torch.float32
    close(values, expected, 5e-6)
    for slope, expected_slope in zip(slopes, expected_slopes, strict=True):
        assert slope.dtype == dtype
        close(slope, expected_slope, torch.finfo(dtype).eps)


@each_case
def test_student_and_teacher_may_differ_in_type(case: Case) -> None:
    student, teacher = inputs(case)
    values, slope, _ = evaluate(case, student.bfloat16(), teacher)
    expected, *_ = evaluate(case, student.bfloat16().double(), teacher)
    assert (values.dtype, slope.dtype) == (torch.float64, torch.bfloat16)
    close(values, expected, 1e-12)


@each_case
def test_autocast_does_not_narrow(case: Case) -> None:
    student, teacher = inputs(case, torch.float32)
    plain = evaluate(case, student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = evaluate(case, student, teacher)  # the backward pass, too
    for actual, expected in zip(inside, plain, strict=True):
        assert actual.dtype == torch.float32
        close(actual, expected, 1e-6)


@each_case
def test_function_transforms_give_the_same_gradient(case: Case) -> None:
    student, teacher = inputs(case)
    slope = torch.func.grad(lambda s: call(case, s, teacher).sum())(student)
    s = student.requires_grad_()
    close(slope, torch.autograd.grad(call(case, s, teacher).sum(), s)[0], 1e-12)


@each_case
def test_several_batches_at_once_by_vmap(case: Case) -> None:
    student, teacher = inputs(case)
    batches = torch.stack([student, student.flip(0), -0.5 * student + 0.1])
    slopes = torch.func.vmap(torch.func.grad(lambda s: call(case, s, teacher).sum()))(batches)
    for slope, one in zip(slopes, batches, strict=True):
        s = one.clone().requires_grad_()
        close(slope, torch.autograd.grad(call(case, s, teacher).sum(), s)[0], 1e-11)


@each_case
@pytest.mark.usefixtures("_reset_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_the_traced_graph_gives_the_same_numbers(case: Case) -> None:
    compiled = torch.compile(
        lambda s, t: call(case, s, t), fullgraph=True, backend="aot_eager", dynamic=False
    )
    student, teacher = (x.requires_grad_() for x in inputs(case))
    values = compiled(student, teacher)
    expected = call(case, student, teacher)
    close(values.detach(), expected.detach(), 1e-12)
    slopes = (torch.autograd.grad(v.sum(), (student, teacher)) for v in (values, expected))
    for one, other in zip(*slopes, strict=True):
        close(one, other, 1e-12)


@each_case
def test_the_order_of_samples_changes_no_more_than_the_order_of_values(case: Case) -> None:
    student, teacher = inputs(case)
    order = torch.randperm(len(student))
    plain = evaluate(case, student, teacher)
    values, *slopes = evaluate(case, student[order], teacher[order])
    if case.name in IN_A_BATCH:
        close(values, plain[0], 1e-12)
        for slope, expected in zip(slopes, plain[1:], strict=True):
            close(slope, expected[order], 1e-12)
    else:
        close(values, plain[0][order], 1e-14)


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in IN_A_BATCH], ids=str)
def test_the_value_of_a_sample_knows_nothing_of_the_others(case: Case) -> None:
    student, teacher = inputs(case)
    expected = call(case, student[:2], teacher[:2])
    student, teacher = student.clone(), teacher.clone()
    student[2:], teacher[2:] = math.nan, math.nan
    close(call(case, student, teacher)[:2], expected, 1e-14)


@pytest.mark.parametrize("case", [c for c in CASES if scale_free(c)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_scale_of_a_side_changes_nothing(case: Case, dtype: torch.dtype) -> None:
    # squares of 1e-25 and 1e25 are beyond float32
    student, teacher = inputs(case, dtype)
    plain = evaluate(case, student, teacher)
    for small, large in ((1e-25, 1e25), (1e20, 1e-20)):
        values, *slopes = evaluate(case, small * student, large * teacher)
        tolerance = 1e-10 if dtype == torch.float64 else 3e-5
        close(values, plain[0], tolerance)
        close(slopes[0] * small, plain[1], tolerance)
        close(slopes[1] * large, plain[2], tolerance)


@each_case
@pytest.mark.parametrize("sides", ["student", "teacher", "both"])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_features_give_finite_slopes(case: Case, sides: str, value: float) -> None:
    student, teacher = inputs(case, torch.float32)
    if sides != "teacher":
        student = torch.full_like(student, value)
    if sides != "student":
        teacher = torch.full_like(teacher, value)
    values, *slopes = evaluate(case, student, teacher)
    assert values.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes)


@each_case
def test_a_sample_of_zeros_and_equal_samples_give_finite_slopes(case: Case) -> None:
    student, teacher = (x.clone() for x in inputs(case, torch.float32))
    student[0] = teacher[1] = 0.0
    if len(student) > 3:
        student[2] = student[3]
    results = evaluate(case, student, teacher)
    assert all(result.isfinite().all() for result in results)
    expected = REFERENCE[case.name](
        student.double().numpy(), teacher.double().numpy(), **case.options
    )
    close(results[0], torch.as_tensor(expected), 3e-6)


@each_case
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_feature_is_not_hidden(case: Case, bad: float, side: int) -> None:
    features = [x.clone() for x in inputs(case)]
    features[side][(0,) * features[side].dim()] = bad
    values = call(case, *features)
    assert not values.flatten()[0].isfinite()


@pytest.mark.parametrize("case", [c for c in CASES if not c.options.get("debiased")], ids=str)
def test_no_sample_gives_nothing_and_a_graph(case: Case) -> None:
    student, teacher = (x[:0].requires_grad_() for x in inputs(case))
    values = call(case, student, teacher)
    assert values.sum() == 0
    values.sum().backward()
    assert student.grad is not None
    assert student.grad.shape == student.shape


@each_case
@pytest.mark.parametrize("side", [0, 1])
def test_whole_numbers_are_refused(case: Case, side: int) -> None:
    features = list(inputs(case))
    features[side] = features[side].long()
    name = ("student", "teacher")[side]
    with pytest.raises(TypeError, match=f"{name} features must be floating point, got torch.int64"):
        call(case, *features)


@each_case
def test_another_number_of_samples_is_refused(case: Case) -> None:
    student, teacher = inputs(case)
    with pytest.raises(ValueError, match=r"got (shapes )?(student )?\(\d, .* and .*\(\d, "):
        call(case, student, teacher[1:])


def transformed(features: Tensor) -> Tensor:
    """An orthogonal transform of the last axis."""
    width = features.shape[-1]
    matrix = torch.randn(width, width, dtype=features.dtype)
    return features @ torch.linalg.qr(matrix).Q


@pytest.mark.parametrize("case", [c for c in CASES if c.name in IN_A_BATCH], ids=str)
def test_an_orthogonal_transform_of_a_side_changes_nothing(case: Case) -> None:
    student, teacher = inputs(case)
    expected = call(case, student, teacher)
    close(call(case, transformed(student), transformed(teacher)), expected, 1e-12)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name in IN_A_BATCH - {"similarity_preserving"}], ids=str
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
def test_features_far_from_zero_lose_no_digit(
    case: Case, dtype: torch.dtype, tolerance: float
) -> None:
    """Against float64 at the same numbers, which the shift has rounded."""
    student, teacher = (x + shift for x, shift in zip(inputs(case), (1e3, -3e3), strict=True))
    student, teacher = student.to(dtype), teacher.to(dtype)
    results = evaluate(case, student, teacher)
    near = [x.double() - x.double().mean(0) for x in (student, teacher)]
    for actual, expected in zip(results, evaluate(case, *near), strict=True):
        size = expected.abs().max()
        close(actual / size, expected / size, tolerance)
