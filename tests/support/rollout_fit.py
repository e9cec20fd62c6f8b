"""Fits on two processes whose text a server writes; see test_on_policy_engine.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from kdlight.models import Sampling
from kdlight.rollouts import VLLMRollouts
from tests.support.on_policy_fit import fit
from tests.support.rank_scripts import save_results


def main(folder: Path, url: str) -> None:
    """Fit with each strategy and engine, on every rank."""
    torch.set_num_threads(1)
    greedy: dict[str, Any] = {"sampling": Sampling(temperature=0.0), "refresh_every": 1}
    results = {}
    for strategy in ("ddp", "fsdp2"):
        engine = VLLMRollouts(url, folder=str(folder / "weights"))
        results[f"{strategy} local"] = fit(strategy, **greedy)
        results[f"{strategy} served"] = fit(strategy, **greedy, engine=engine)
    save_results(results, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
