"""Logits of 40 tokens, with labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture
def student(generator: torch.Generator) -> Tensor:
    return (3 * torch.randn(6, 40, dtype=torch.float64, generator=generator)).requires_grad_()


@pytest.fixture
def labels(generator: torch.Generator) -> Tensor:
    return torch.randint(40, (6,), generator=generator)
