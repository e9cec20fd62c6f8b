"""Students that generate on two ranks, one of which has no prompt to continue at first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.forked_ranks import run_forked
from tests.support.rank_scripts import results_of_ranks


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    run_forked("tests.support.on_policy_fit", str(folder), timeout=120)
    return results_of_ranks(folder)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_no_rank_waits_for_another(strategy: str, ranks: list[Any]) -> None:
    first, second = (rank[strategy] for rank in ranks)
    assert first["replaced"] == second["replaced"] == 3
    assert first["loss"] == second["loss"] > 0
    assert "attention_mask" in first["batches"][0]
    unchanged = second["batches"][0]["labels"]
    assert (unchanged == -100).all()
    replaced = second["batches"][2]["labels"]
    assert (replaced[:, 3] != -100).all()
