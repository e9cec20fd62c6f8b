"""Students that generate on two ranks, one of which has no prompt to continue at first."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.split_fit import ROOT, load_when_written


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.on_policy_fit", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,  # ranks that wait for each other never end
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_when_written(folder / f"{rank}.pt") for rank in range(2)]


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
