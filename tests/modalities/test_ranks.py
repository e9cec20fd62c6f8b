"""Two ranks train a pair as one process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.modalities.rank_fit import Weights, fit, fit_on_ranks

NAMES = ["vision_transformer", "encoder", "segmentation", "vision_language"]


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Weights]]:
    """Run all fits in one start of the ranks, which takes seconds."""
    return fit_on_ranks(NAMES, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_are_one_process(
    name: str, on_ranks: list[dict[str, Weights]], tmp_path: Path
) -> None:
    expected = fit(name, tmp_path)
    first, second = (rank[name] for rank in on_ranks)
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, atol=1e-6, rtol=1e-5)
