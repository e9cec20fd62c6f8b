"""Inputs with known probabilities, and checks of hyper-parameters, for tests of objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.objectives import Loss, LossInputs, Objective


def one_position(
    q: Sequence[float], p: Sequence[float] | None = None, label: int | None = None
) -> LossInputs:
    """Inputs of one position, with the student's probabilities q and the teacher's p."""
    student, teacher = (
        None if row is None else torch.tensor([row], dtype=torch.float64).log() for row in (q, p)
    )
    assert student is not None
    labels = None if label is None else torch.tensor([label])
    return LossInputs(student.requires_grad_(), teacher, labels)


def tempered(p: Sequence[float], temperature: float) -> list[float]:
    """Probabilities at another temperature, p^(1/T) divided by their sum."""
    powers = [x ** (1 / temperature) for x in p]
    return [x / sum(powers) for x in powers]


def grad(loss: Loss, inputs: LossInputs) -> Tensor:
    """The gradient of the total in the student's logits."""
    return torch.autograd.grad(loss.total, inputs.student.logits(), retain_graph=True)[0]


def check_attributes(make: Callable[..., Objective], inputs: LossInputs, **changed: float) -> None:
    """Attributes that are changed later have the effect of arguments, and have an effect."""
    objective, built = make(), make(**changed)
    before, expected = objective(inputs).total, built(inputs).total
    for name, value in changed.items():
        setattr(objective, name, value)
    assert objective(inputs).total == expected
    assert abs(before - expected) > 1e-4


def check_refused(make: Callable[..., Any], **wrong: Any) -> None:
    """A wrong argument raises an error that has its name and its value."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{name} must be .*got {value}"):
        make(**wrong)
