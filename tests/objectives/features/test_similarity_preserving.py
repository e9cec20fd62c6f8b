"""Similarities of samples: a slow reference over rows, maps and sequences."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import SimilarityPreserving
from tests.losses.features.reference import REFERENCE
from tests.objectives.features.samples import PAIRS, feature_inputs, randn


@pytest.mark.parametrize("shape", [(4,), (3, 2, 2), (3, 4)])
def test_it_is_the_loss_of_the_rows_of_samples(shape: tuple[int, ...]) -> None:
    student, teacher = randn(5, *shape), randn(5, 6, seed=1)
    mask = torch.tensor([True, True, False, True, True])
    loss = SimilarityPreserving(PAIRS)(feature_inputs(student, teacher, mask=mask))
    rows = student.mean(1) if len(shape) == 2 else student.flatten(1)
    expected = REFERENCE["similarity_preserving"](rows[mask].numpy(), teacher[mask].numpy())
    assert loss.mean().item() == pytest.approx(float(expected), rel=1e-12)
    assert loss.count == 4


def test_the_gradient_is_that_of_the_formula() -> None:
    mask = torch.tensor([True, True, False, True, True])

    def total(student: torch.Tensor) -> torch.Tensor:
        inputs = feature_inputs(student, randn(5, 6, seed=1), mask=mask)
        return SimilarityPreserving(PAIRS)(inputs).total

    assert torch.autograd.gradcheck(total, randn(5, 3, 2).requires_grad_())
