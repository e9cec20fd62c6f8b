"""Relations of tokens: heads, masks, and what padding must not do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses import masked_mean
from kdlight.losses.features.attention_relation import attention_relation
from tests.losses.features import reference

MASK = torch.tensor([[True, True, True, True], [True, True, False, False]])
LEFT = torch.tensor([[False, True, True, True], [False, False, False, True]])
EMPTY = torch.tensor([[True, False, True, False], [False, False, False, False]])
VARIANTS = [(kind, causal) for kind in ("kl", "mse") for causal in (False, True)]

each_variant = pytest.mark.parametrize(("kind", "causal"), VARIANTS)
each_mask = pytest.mark.parametrize("mask", [MASK, LEFT, EMPTY], ids=["right", "left", "empty"])


def pair() -> tuple[Tensor, Tensor]:
    student = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    return student, torch.randn(2, 4, 12, dtype=torch.float64)


@each_variant
@each_mask
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_masked_values_are_the_references(
    kind: str, causal: bool, mask: Tensor, dtype: torch.dtype
) -> None:
    student, teacher = pair()
    options: dict[str, Any] = {"heads": 3, "kind": kind, "causal": causal}
    values = attention_relation(student, teacher, mask=mask.to(dtype), **options)
    expected = reference.attention_relation(
        student.detach().numpy(), teacher.numpy(), mask=mask, **options
    )
    torch.testing.assert_close(values.detach(), torch.from_numpy(expected))
    assert (values[~mask] == 0).all()


@each_variant
@each_mask
@pytest.mark.parametrize("junk", [7.0, 1e30, math.inf, math.nan])
def test_what_stands_at_padding_changes_neither_value_nor_slope(
    kind: str, causal: bool, mask: Tensor, junk: float
) -> None:
    student, teacher = pair()
    found = []
    for fill in (0.0, junk):
        s = student.detach().masked_fill(~mask[..., None], fill).requires_grad_()
        t = teacher.masked_fill(~mask[..., None], fill).requires_grad_()
        values = attention_relation(s, t, heads=3, kind=kind, causal=causal, mask=mask)
        found.append((values, *torch.autograd.grad(values.sum(), (s, t))))
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert all((slope[~mask] == 0).all() for slope in found[1][1:])


@each_variant
def test_padding_a_batch_changes_nothing(kind: str, causal: bool) -> None:
    student, teacher = pair()
    options: dict[str, Any] = {"heads": 3, "kind": kind, "causal": causal}
    padded = attention_relation(student, teacher, mask=MASK, **options)
    alone = attention_relation(student[1:, :2], teacher[1:, :2], **options)
    torch.testing.assert_close(padded[1:, :2], alone)
    torch.testing.assert_close(padded[:1], attention_relation(student[:1], teacher[:1], **options))


@each_variant
@each_mask
def test_slopes_under_a_mask(kind: str, causal: bool, mask: Tensor) -> None:
    student, teacher = pair()
    assert torch.autograd.gradcheck(
        lambda s: attention_relation(s, teacher, heads=2, kind=kind, causal=causal, mask=mask),
        student,
    )


@each_variant
@each_mask
def test_nothing_on_the_way_is_nan(kind: str, causal: bool, mask: Tensor) -> None:
    """For `Trainer(detect_anomaly=True)`: a padding query with no key would have a NaN slope."""
    student, teacher = pair()
    with torch.autograd.set_detect_anomaly(True):
        values = attention_relation(student, teacher, heads=3, kind=kind, causal=causal, mask=mask)
        values.sum().backward()


def test_no_position_sees_a_later_one_if_causal() -> None:
    student, teacher = pair()
    expected = attention_relation(student, teacher, heads=3, causal=True)
    later = student.detach().clone()
    later[:, 3] += 1
    values = attention_relation(later, teacher, heads=3, causal=True)
    assert torch.equal(values[:, :3], expected[:, :3])
    assert not torch.isclose(values[:, 3], expected[:, 3]).any()
    assert (expected[:, 0] == 0).all()  # the first position has only itself


def test_the_published_mean_and_that_of_parts() -> None:
    """Means of parts, weighted by their valid positions, are the mean of the whole."""
    student, teacher = pair()
    values = attention_relation(student, teacher, heads=3, mask=MASK)
    parts = [masked_mean(values[b], MASK[b]) * MASK[b].sum() for b in range(2)]
    torch.testing.assert_close(masked_mean(values, MASK), torch.stack(parts).sum() / MASK.sum())
    expected = 0.0
    for head in range(3):
        scores = [
            x[..., head * d : head * d + d] @ x[..., head * d : head * d + d].mT / d**0.5
            for x, d in ((student.detach(), 2), (teacher, 4))
        ]
        q, p = (score.log_softmax(-1) for score in scores)
        expected += torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True) / (3 * 8)
    torch.testing.assert_close(
        attention_relation(student, teacher, heads=3).mean().detach(), torch.as_tensor(expected)
    )


def test_a_rotation_within_each_head_changes_nothing() -> None:
    student, teacher = pair()
    rotation = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
    turned = (student.unflatten(-1, (3, 2)) @ rotation).flatten(-2)
    expected = attention_relation(student, teacher, heads=3)
    torch.testing.assert_close(attention_relation(turned, teacher, heads=3), expected)


@each_variant
@pytest.mark.parametrize("shape", [(0, 4, 6), (2, 0, 6)])
def test_no_positions(kind: str, causal: bool, shape: tuple[int, ...]) -> None:
    student = torch.zeros(shape, requires_grad=True)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    values = attention_relation(
        student, torch.zeros(shape), heads=3, kind=kind, causal=causal, mask=mask
    )
    assert values.shape == shape[:2]
    values.sum().backward()
    assert student.grad is not None


@pytest.mark.parametrize("widths", [(40, 48), (48, 40)])
def test_heads_must_divide_both_widths(widths: tuple[int, int]) -> None:
    student, teacher = (torch.zeros(2, 3, width) for width in widths)
    said = rf"{widths[0]} of the student and {widths[1]} of the teacher, got 12; .* divisor of 8"
    with pytest.raises(ValueError, match=said):
        attention_relation(student, teacher)
    with pytest.raises(ValueError, match="Keys and values of grouped-query attention"):
        attention_relation(student, teacher)
    assert attention_relation(student, teacher, heads=8).shape == (2, 3)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "error", "said"),
    [
        ((2, 3, 4, 5), (2, 3, 4), {}, ValueError, r"student features must be \(B, T, D\), got"),
        ((2, 3, 12), (3, 12), {}, ValueError, r"teacher features must be .* got shape \(3, 12\)"),
        ((2, 3, 12), (2, 4, 12), {}, ValueError, r"same positions, got shapes .* \(2, 4, 12\)"),
        ((2, 3, 12), (2, 3, 0), {}, ValueError, "heads must divide both widths"),
        ((2, 3, 12), (2, 3, 12), {"heads": 0}, ValueError, "heads must be at least 1, got 0"),
        ((2, 3, 12), (2, 3, 12), {"heads": 2.0}, TypeError, "heads must be an integer"),
        ((2, 3, 12), (2, 3, 12), {"kind": "cos"}, ValueError, "kind must be one of 'kl', 'mse'"),
        ((2, 3, 12), (2, 3, 12), {"mask": torch.ones(2, 3)}, TypeError, "mask must be boolean"),
        (
            (2, 3, 12),
            (2, 3, 12),
            {"mask": torch.ones(3, 2).bool()},
            ValueError,
            r"mask must have one entry per position, \(2, 3\), got \(3, 2\)",
        ),
    ],
)
def test_bad_input_is_refused(
    student: Any, teacher: Any, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        attention_relation(torch.zeros(student), torch.zeros(teacher), **options)
