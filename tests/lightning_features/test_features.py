"""A module and the mixin train with each feature of Lightning as plain PyTorch does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lightning_features.features import FEATURES


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
@pytest.mark.filterwarnings("ignore:.*the total number of parameters detected may be inaccurate")
@pytest.mark.filterwarnings("ignore:.*WeightAveraging doesn't support sharding")
@pytest.mark.filterwarnings("ignore:.*custom batch sampler")
@pytest.mark.filterwarnings("ignore:.*barebones=True.* is configured")
@pytest.mark.parametrize("kind", ["module", "mixin"])
@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_trains_as_plain_pytorch_does(name: str, kind: str, tmp_path: Path) -> None:
    FEATURES[name](kind, tmp_path)
