"""The closed form of DAC-KL is autograd's: results, gradients of logits and of thresholds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses.clipped_kl.clipping import Clipped, clip
from kdlight.losses.clipped_kl.closed_form import clip_and_grad
from kdlight.losses.clipped_kl.compared import compare

ROWS, V = 8, 600


def logits(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    spread = {"flat": 0.2, "peaked": 6.0}.get(kind, 2.0)
    student, teacher = (
        spread * torch.randn(2, ROWS, V, dtype=torch.float64, generator=generator)
    ).unbind()
    if kind == "tied":
        student, teacher = student.bfloat16().double(), teacher.bfloat16().double()
    if kind == "mixed":  # one-hot with probabilities of 0, uniform, peaked, a match
        teacher[0] = -900.0
        teacher[0, 7] = 0.0
        teacher[1], teacher[2] = 0.0, 4 * teacher[2]
        student[3] = teacher[3]
    labels = torch.randint(V, (ROWS,), generator=generator)
    labels[::3] = -100
    return student, teacher, labels


def thresholds(lower: float, upper: float) -> tuple[Tensor, Tensor]:
    moves = torch.linspace(-0.04, 0.04, ROWS, dtype=torch.float64)
    return (lower + moves.abs()).requires_grad_(), (upper + moves).requires_grad_()


def evaluate(clipped: Clipped, *sides: Tensor) -> list[Tensor]:
    """The gradients of a mixture of the values and masses in the thresholds, and the results."""
    weights = torch.linspace(0.5, 2.0, ROWS, dtype=torch.float64)
    total = clipped.values + (0.9 - clipped.mass).square()
    grads = torch.autograd.grad(total, sides, weights, retain_graph=True)
    return [*grads, *(each.detach().double() for each in clipped)]


@pytest.mark.parametrize("head", [1, 20, V])
@pytest.mark.parametrize("kind", ["flat", "usual", "peaked", "tied", "mixed"])
@pytest.mark.parametrize("include_argmax", [True, False])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, 0.95), (0.3, 0.6)])
def test_it_is_that_of_autograd(
    lower: float, upper: float, include_argmax: bool, kind: str, head: int
) -> None:
    student, teacher, labels = logits(kind)
    results = []
    for is_closed in (True, False):
        sides = thresholds(lower, upper)
        options: dict[str, Any] = {"include_argmax": include_argmax, "gate_temperature": 0.05}
        if is_closed:
            both = compare(student, teacher, head)
            clipped, grad = clip_and_grad(both, *sides, labels, **options)
        else:
            leaf = student.clone().requires_grad_()
            options |= {"rule": "mass", "tail": "bucket", "gate": "ste", "residual": 0.0}
            clipped = clip(
                leaf,
                teacher,
                lower=sides[0],
                upper=sides[1],
                labels=labels,
                temperature=1.0,
                head=head,
                **options,
            )
            (grad,) = torch.autograd.grad(clipped.values.sum(), leaf, retain_graph=True)
        supported = clipped.values.isfinite().unsqueeze(-1)
        results.append([supported, torch.where(supported, grad, 0.0), *evaluate(clipped, *sides)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10, equal_nan=True)


def test_a_row_is_computed_alike_whatever_rows_are_computed_with_it() -> None:
    student, teacher, labels = logits("mixed")

    def run(rows: slice) -> list[Tensor]:
        lower, upper = (x.detach()[rows].requires_grad_() for x in thresholds(0.0, 0.9))
        both = compare(student[rows], teacher[rows], 20)
        clipped, grad = clip_and_grad(
            both, lower, upper, labels[rows], include_argmax=True, gate_temperature=0.05
        )
        slopes = torch.autograd.grad(clipped.values.sum() + clipped.mass.sum(), (lower, upper))
        return [grad, *slopes, *(x.detach() for x in clipped)]

    alone = [run(slice(row, row + 1)) for row in range(ROWS)]
    for one, other in zip(run(slice(None)), map(torch.cat, zip(*alone, strict=True)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_without_a_width_the_thresholds_have_no_gradient() -> None:
    student, teacher, labels = logits("usual")
    clipped, _ = clip_and_grad(
        compare(student, teacher, 20),
        *thresholds(0.0, 0.9),
        labels,
        include_argmax=True,
        gate_temperature=None,
    )
    assert not clipped.values.requires_grad
    assert not clipped.mass.requires_grad


@pytest.mark.parametrize("width", [V, 9000])
def test_there_may_be_no_rows(width: int) -> None:
    empty = torch.empty(0, width)
    none = torch.empty(0, requires_grad=True)
    clipped, grad = clip_and_grad(
        compare(empty, empty, 20),
        none,
        none,
        torch.empty(0, dtype=torch.int64),
        include_argmax=True,
        gate_temperature=0.05,
    )
    assert grad.shape == (0, width)
    assert all(each.shape == (0,) for each in clipped)
