"""Models that the tests of this folder share."""

from __future__ import annotations

import pytest
from torch import nn

from tests.models.tiny_models import CONFIGS, tiny


@pytest.fixture(params=list(CONFIGS))
def teacher(request: pytest.FixtureRequest) -> nn.Module:
    return tiny(request.param)


@pytest.fixture
def llama() -> nn.Module:
    return tiny("llama")
