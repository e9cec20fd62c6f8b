"""The losses on features by name, and the inputs that tests give to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdlight.losses.features.attention_relation import attention_relation
from kdlight.losses.features.attention_transfer import attention_transfer
from kdlight.losses.features.feature_distance import feature_distance
from kdlight.losses.features.inter_channel_correlation import inter_channel_correlation
from kdlight.losses.features.linear_cka import linear_cka
from kdlight.losses.features.relational_angle import relational_angle
from kdlight.losses.features.relational_distance import relational_distance
from kdlight.losses.features.similarity_preserving import similarity_preserving
from tests.losses.features.reference import Case

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    each.__name__: each
    for each in (
        attention_relation,
        attention_transfer,
        feature_distance,
        inter_channel_correlation,
        linear_cka,
        relational_angle,
        relational_distance,
        similarity_preserving,
    )
}


def inputs(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Student's and teacher's features, the same numbers each time."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (
        torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)
        for shape in (case.student, case.teacher)
    )
    return student, teacher


def call(case: Case, student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
    return FUNCTIONS[case.name](student, teacher, **case.options, **options)


def evaluate(case: Case, student: Tensor, teacher: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """Values, and the gradients of an uneven sum of them for student and teacher."""
    student, teacher = student.detach().requires_grad_(), teacher.detach().requires_grad_()
    values = call(case, student, teacher, **options)
    weights = torch.linspace(0.5, 1.5, values.numel(), dtype=values.dtype).view(values.shape)
    gradients = torch.autograd.grad((weights * values).sum(), (student, teacher))
    return values.detach(), *gradients


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )
