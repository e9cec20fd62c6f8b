"""The Sinkhorn loss: its formula written slowly, what it may not depend on, and its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses import sinkhorn
from tests.support import reference

CASES: list[dict[str, Any]] = [
    {},
    {"epsilon": 0.02, "iterations": 3, "temperature": 0.7},
    {"reduction": "sum"},
    {"p": 2},
    {"relative_epsilon": True},
    {"debiased": True},
    {"debiased": True, "relative_epsilon": True, "p": 2, "reduction": "sum"},
]
GEOMETRIES = ["batch", "sequence", "position"]


@pytest.fixture
def mask() -> Tensor:
    kept = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 0, 1, 1]]).bool()
    assert kept[:, 2].sum() == 0
    return kept


def slopes(value: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, leaves, retain_graph=True)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradient_are_those_of_the_slow_reference(
    case: dict[str, Any], geometry: str, student: Tensor, teacher: Tensor, mask: Tensor
) -> None:
    value = sinkhorn(student, teacher, mask=mask, geometry=geometry, **case)
    expected = slowly(student, teacher, mask, geometry, **case)
    close(value, expected)
    close(slopes(value, student), slopes(expected, student))


def slowly(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    geometry: str,
    reduction: str = "mean",
    **case: Any,
) -> Tensor:
    """The distance of every set of points, each from `tests.support.reference`."""
    places = {"batch": [mask], "sequence": [], "position": []}
    for kind, side in (("sequence", 0), ("position", 1)):
        for index in range(mask.shape[side]):
            kept = torch.zeros_like(mask)
            kept.select(side, index).copy_(mask.select(side, index))
            places[kind].append(kept)
    values = [
        reference.sinkhorn(student[kept], teacher[kept], **case)
        * (kept.sum() if reduction == "sum" else 1)
        for kept in places[geometry]
        if kept.any()
    ]
    return torch.stack(values).sum() / (1 if reduction == "sum" else len(values))


@pytest.mark.parametrize("gradient", ["unrolled", "implicit", "detached"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_masking_is_removing_whatever_stands_there(
    gradient: str, geometry: str, student: Tensor, teacher: Tensor, mask: Tensor
) -> None:
    options: Any = {"geometry": geometry, "gradient": gradient, "epsilon": 0.05}
    clean = sinkhorn(student, teacher, mask=mask, **options)
    for rubbish in (torch.nan, torch.inf, -torch.inf):
        dirty = student.detach().masked_fill(~mask[..., None], rubbish).requires_grad_()
        other = teacher.masked_fill(~mask[..., None], rubbish)
        value = sinkhorn(dirty, other, mask=mask, **options)
        assert value == clean
        assert torch.equal(slopes(value, dirty)[0], slopes(clean, student)[0])
    if geometry == "batch":
        close(clean, sinkhorn(student[mask], teacher[mask], **options))


def test_sides_may_differ_in_their_number_of_points(student: Tensor, teacher: Tensor) -> None:
    for ours, theirs in ((4, 9), (1, 5), (5, 1)):
        q, p = student.flatten(0, 1)[:ours], teacher.flatten(0, 1)[:theirs]
        close(sinkhorn(q, p), reference.sinkhorn(q, p))
    kept = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 1]]).bool()
    value = sinkhorn(student, teacher[:, :4], teacher_mask=kept, geometry="sequence")
    alone = [sinkhorn(student[b], teacher[b, :4][kept[b]]) for b in range(2)]
    close(value, torch.stack(alone).mean())


@pytest.mark.parametrize("gradient", ["unrolled", "implicit", "detached"])
def test_one_point_is_the_distance_and_none_is_zero(
    gradient: str, student: Tensor, teacher: Tensor
) -> None:
    one = sinkhorn(student[0, :1], teacher[0, :1], temperature=1.0, gradient=gradient)
    close(one, 2 * losses.total_variation(student[0, 0], teacher[0, 0]))
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    for geometry in GEOMETRIES:
        none = sinkhorn(student, teacher, mask=nothing, geometry=geometry, gradient=gradient)
        assert none == 0
        assert not slopes(none, student)[0].any()


def test_debiased_is_zero_at_a_match_and_nowhere_steep_there(student: Tensor) -> None:
    cases: list[Any] = [{}, {"epsilon": 0.01}, {"p": 2}, {"relative_epsilon": True}]
    for options in cases:
        value = sinkhorn(student, student.detach(), debiased=True, **options)
        assert abs(value.item()) < 1e-12
        assert slopes(value, student)[0].abs().max() < 1e-10
    assert sinkhorn(student, student.detach()) > 1e-2


@pytest.mark.parametrize(
    "case", [case for case in CASES if "relative_epsilon" not in case], ids=str
)  # a mean cost is held fast
def test_gradcheck_of_both_sides(case: dict[str, Any], student: Tensor, teacher: Tensor) -> None:
    q, p = student[0].detach().requires_grad_(), teacher[1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: sinkhorn(a, b, **case), (q, p))


@pytest.mark.parametrize("epsilon", [0.1, 0.005, 0.001])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_first(
    half: torch.dtype, epsilon: float, student: Tensor, teacher: Tensor
) -> None:
    low, other = (5 * z.detach().to(half) for z in (student, teacher))
    low.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = sinkhorn(low, other, epsilon=epsilon)
    exact = sinkhorn(low.double(), other.double(), epsilon=epsilon)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=1e-4)
    assert slopes(value, low)[0].isfinite().all()


def test_extreme_logits_have_finite_gradients(student: Tensor, teacher: Tensor) -> None:
    barred = student.detach().clone()
    barred[..., 0] = -torch.inf
    for q in (barred, 1e4 * student.detach(), torch.zeros_like(barred)):
        for p in (teacher, 1e4 * teacher, q):
            for epsilon in (0.1, 0.001):
                leaf = q.clone().float().requires_grad_()
                for gradient in ("unrolled", "implicit", "detached"):
                    value = sinkhorn(leaf, p.float(), epsilon=epsilon, gradient=gradient)
                    assert value.isfinite()
                    assert slopes(value, leaf)[0].isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0 and finite"),
        ({"epsilon": float("nan")}, "epsilon must be above 0 and finite"),
        ({"iterations": 0}, "iterations must be .* at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be .*got -1.0"),
        ({"geometry": "token"}, "geometry must be one of 'batch', .*got 'token'"),
        ({"reduction": "none"}, "reduction must be .*got 'none'"),
        ({"gradient": "exact"}, "gradient must be one of .*got 'exact'"),
        ({"solver": "newton"}, "solver must be one of .*got 'newton'"),
        ({"p": 3}, "p must be one of 1, 2, got 3"),
        ({"mask": torch.ones(2, 4)}, r"mask must have the shape of .*\(2, 5\), got \(2, 4\)"),
    ],
)
def test_what_is_wrong_is_named(
    wrong: dict[str, Any], message: str, student: Tensor, teacher: Tensor
) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn(student, teacher, **wrong)


def test_what_does_not_fit_is_named(student: Tensor, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match="vocabularies differ: 7 and 6 .*losses.uld"):
        sinkhorn(student, teacher[..., :6])
    with pytest.raises(ValueError, match="needs logits of shape .*use geometry='batch'"):
        sinkhorn(student[0], teacher[0], geometry="sequence")
    with pytest.raises(ValueError, match="pairs the 2 problems"):
        sinkhorn(student, teacher[:1], geometry="sequence")
