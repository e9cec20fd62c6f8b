"""Inputs of objectives that all tests of this folder share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.objectives import LossInputs


@pytest.fixture
def inputs(student: Tensor, teacher: Tensor, generator: torch.Generator) -> LossInputs:
    """Float64 logits (2, 5, 7) of both sides with labels, two of ten positions masked."""
    labels = torch.randint(7, (2, 5), generator=generator)
    labels[0, :2] = -100
    return LossInputs(student, teacher, labels, labels != -100)
