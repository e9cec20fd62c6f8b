"""Linear CKA as a loss: a slow reference, both estimates, small batches."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import LinearCKA
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", [(2,), (9,), (3, 2, 2), (3, 4)])
def test_it_is_one_minus_the_alignment_of_the_rows(shape: tuple[int, ...], debiased: bool) -> None:
    student, teacher = randn(6, *shape), randn(6, 3, seed=1)
    mask = torch.tensor([True, True, False, True, True, True])
    loss = LinearCKA(PAIRS, debiased=debiased)(feature_inputs(student, teacher, mask=mask))
    rows = student.mean(1) if len(shape) == 2 else student.flatten(1)
    expected = 1 - REFERENCE["linear_cka"](
        rows[mask].numpy(), teacher[mask].numpy(), debiased=debiased
    )
    assert loss.mean().item() == pytest.approx(float(expected), rel=1e-10)
    assert loss.count == 5


@pytest.mark.parametrize("debiased", [False, True])
def test_no_sample_is_zero_and_one_sample_is_unaligned(debiased: bool) -> None:
    student, mask = randn(3, 4).requires_grad_(), torch.zeros(3, dtype=torch.bool)
    inputs = feature_inputs(student, randn(3, 4), mask=mask)
    loss = LinearCKA(PAIRS, debiased=debiased)(inputs)
    assert loss.total == loss.count == 0
    assert not torch.autograd.grad(loss.total, student)[0].any()
    if not debiased:
        loss = LinearCKA(PAIRS)(feature_inputs(student[:1], randn(1, 4)))
        assert loss.mean() == 1
        assert not torch.autograd.grad(loss.total, student)[0].any()


def test_the_unbiased_estimate_of_few_samples_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"4 valid samples or more .* got 3: .*drop_last=True"):
        LinearCKA(PAIRS, debiased=True)(feature_inputs(randn(3, 4), randn(3, 4)))
