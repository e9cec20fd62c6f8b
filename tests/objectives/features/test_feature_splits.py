"""Features beside logits of other positions: samples that count, splits, padding, pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.objectives import build_objective
from tests.objectives.features.samples import feature_inputs, randn
from tests.objectives.features.test_feature_laws import KNOWN, PAIRWISE, SEQUENCE, Case, build

# A sample of a sequence or of a map beside logits of several tokens
BESIDE = [key for key, case in KNOWN.items() if case.shape is not None]
TOKENS = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()


def beside(case: Case, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Any]:
    """Inputs of six samples, of which two have no valid position; their features are NaN."""
    assert case.shape is not None
    student, teacher = randn(6, *case.shape), randn(6, *case.shape, seed=1)
    mask = TOKENS.repeat(2, 1)
    empty = ~mask.any(-1)
    student[empty], teacher[empty] = torch.nan, torch.inf
    student = student[rows].requires_grad_()
    logits = torch.zeros(*mask[rows].shape, 5)
    return (
        student,
        empty[rows],
        feature_inputs(student, teacher[rows], logits=logits, mask=mask[rows]),
    )


@pytest.mark.parametrize("key", BESIDE)
def test_a_sample_without_a_valid_position_contributes_nothing(key: str) -> None:
    case = KNOWN[key]
    student, empty, inputs = beside(case)
    loss = build(case)(inputs)
    assert loss.total.isfinite()
    assert loss.count == 16
    (grad,) = torch.autograd.grad(loss.total, student)
    assert not grad[empty].any()
    assert grad[~empty].isfinite().all()
    assert grad[~empty].flatten(1).any(-1).all()


@pytest.mark.parametrize("key", [key for key in BESIDE if KNOWN[key].name not in PAIRWISE])
def test_two_micro_batches_have_the_sum_of_one(key: str) -> None:
    """Samples count as much as they have valid positions, in whatever micro-batch they are."""
    case, objective = KNOWN[key], build(KNOWN[key])
    parts = [beside(case, rows) for rows in (slice(0, 1), slice(1, 2), slice(2, 6))]
    whole, _, inputs = beside(case)
    losses, expected = [objective(each) for _, _, each in parts], objective(inputs)
    assert sum(loss.count for loss in losses) == expected.count
    torch.testing.assert_close(
        torch.stack([loss.total for loss in losses]).sum(), expected.total, rtol=1e-12, atol=0
    )
    (grad,) = torch.autograd.grad(expected.total, whole)
    own = [
        torch.autograd.grad(loss.total, leaf)[0]
        for loss, (leaf, _, _) in zip(losses, parts, strict=True)
    ]
    torch.testing.assert_close(torch.cat(own), grad, rtol=1e-12, atol=1e-15)


SEQUENCES = [
    key for key, case in KNOWN.items() if case.shape == SEQUENCE and "channel_dim" not in key
]


@pytest.mark.parametrize("garbage", [1e3, torch.nan, torch.inf])
@pytest.mark.parametrize("key", SEQUENCES)
def test_padding_does_not_matter(key: str, garbage: float) -> None:
    """Neither what stands there, nor how much of it there is."""
    objective = build(KNOWN[key])
    student, teacher = randn(6, 3, 4), randn(6, 3, 4, seed=1)
    logits, lengths = torch.zeros(6, 7, 5), torch.tensor([1, 2, 3, 3, 2, 1])
    padding = torch.arange(3) < lengths[:, None]
    results = []
    for value, width in ((0.0, 0), (garbage, 0), (garbage, 2)):
        filled = [
            torch.cat(
                [x.masked_fill(~padding[..., None], value), x.new_full((6, width, 4), value)], 1
            )
            for x in (student, teacher)
        ]
        ours = filled[0].requires_grad_()
        mask = torch.cat([padding, torch.zeros(6, width, dtype=torch.bool)], 1)
        loss = objective(feature_inputs(ours, filled[1], logits=logits, padding=mask))
        (grad,) = torch.autograd.grad(loss.total, ours)
        assert not grad[~mask].any()
        assert loss.count == 42
        results.append((loss.total, grad[:, :3]))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("key", KNOWN)
def test_several_pairs_are_averaged(key: str) -> None:
    case = KNOWN[key]
    shape = (7,) if case.shape is None else case.shape
    a, b, c = (randn(6, *shape, seed=seed) for seed in range(3))
    alone: Any = build(case)
    both: Any = build_objective(case.name, pairs={"a": "x", "b": "y"}, **case.options).double()
    if "sizes" in case.options:
        both.projectors = nn.ModuleList([alone.projectors[0]] * 2)
    inputs = feature_inputs(a, b)
    own = {"a": a, "b": b, "a.q": a, "b.q": b}
    theirs = {"x": c, "y": a, "x.q": c, "y.q": a}
    object.__setattr__(inputs, "student_features", own)
    object.__setattr__(inputs, "teacher_features", theirs)
    expected = (alone(feature_inputs(a, c)).total + alone(feature_inputs(b, a)).total) / 2
    torch.testing.assert_close(both(inputs).total, expected, rtol=1e-12, atol=0)
