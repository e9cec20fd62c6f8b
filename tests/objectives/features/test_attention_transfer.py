"""Attention transfer: a slow reference, weights of samples, other sizes, errors."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import AttentionTransfer
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn

COUNTS = torch.tensor([2, 0, 3])
MASK = torch.arange(4) < COUNTS[:, None]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_a_sample_counts_with_its_valid_positions(p: float) -> None:
    student, teacher = randn(3, 4, 2, 3), randn(3, 5, 2, 3, seed=1)
    inputs = feature_inputs(student, teacher, logits=torch.zeros(3, 4, 7), mask=MASK)
    loss = AttentionTransfer(PAIRS, p=p)(inputs)
    values = REFERENCE["attention_transfer"](student.numpy(), teacher.numpy(), p=p)
    expected = (torch.from_numpy(values) * COUNTS).sum()
    torch.testing.assert_close(loss.total, expected, rtol=1e-12, atol=0)
    assert loss.count == 5


def test_a_larger_map_is_pooled() -> None:
    student, teacher = randn(2, 4, 3, 3), randn(2, 5, 6, 6, seed=1)
    pooled = torch.nn.functional.avg_pool2d(teacher, 2)
    large, small = (
        AttentionTransfer(PAIRS)(feature_inputs(student, each)) for each in (teacher, pooled)
    )
    torch.testing.assert_close(large.total, small.total, rtol=1e-12, atol=0)


def test_no_valid_sample_is_zero_with_a_graph() -> None:
    student, teacher = randn(2, 4, 3, 3).requires_grad_(), randn(2, 5, 6, 6)
    mask = torch.zeros(2, dtype=torch.bool)
    loss = AttentionTransfer(PAIRS)(feature_inputs(student, teacher, mask=mask))
    assert loss.total == loss.count == 0
    assert not torch.autograd.grad(loss.total, student)[0].any()


@pytest.mark.parametrize("p", [0.5, 0.0, -1.0, float("inf"), float("nan")])
def test_the_power_is_checked_when_it_is_set(p: float) -> None:
    with pytest.raises(ValueError, match="p must be"):
        AttentionTransfer(PAIRS, p=p)


def test_rows_and_sequences_with_padding_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be maps \(B, C, ...\) of channels"):
        AttentionTransfer(PAIRS)(feature_inputs(randn(2, 4), randn(2, 4)))
    padding = torch.tensor([[True, False, False], [True, True, True]])
    inputs = feature_inputs(randn(2, 3, 4), randn(2, 3, 4), padding=padding)
    with pytest.raises(ValueError, match="'layer' is a sequence with padding"):
        AttentionTransfer(PAIRS)(inputs)
