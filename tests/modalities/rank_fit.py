"""Fits of pairs on one process, or on the ranks that Lightning starts.

The script writes the weights of the students after the fits. Its arguments are the folder of the
results and the names of the pairs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from torch import Tensor

from tests.modalities.pairs import COUNT, PAIRS, loader, module, sgd
from tests.support import toy
from tests.support.forked_ranks import run_forked
from tests.support.rank_scripts import results_of_ranks, save_results

Weights = dict[str, Tensor]


def fit(name: str, folder: Path, *, ranks: int = 1) -> Weights:
    """Run three steps of all samples, which the ranks divide among them."""
    pair = PAIRS[name]
    # LLaVA reads the last layer but one of its vision model, so that one layer has no gradient
    ddp = "ddp_find_unused_parameters_true" if name == "vision_language" else "ddp"
    options: dict[str, Any] = {"devices": ranks, "strategy": ddp if ranks > 1 else "auto"}
    distilled = module(pair, optimizer=sgd)
    trainer = toy.trainer(folder, max_epochs=3, **options)
    trainer.fit(distilled, loader(pair, COUNT // ranks))
    return {key: value.clone() for key, value in distilled.student.state_dict().items()}


def fit_on_ranks(names: list[str], folder: Path) -> list[dict[str, Weights]]:
    """Run the fits on two ranks; return the weights of each rank by pair."""
    run_forked("tests.modalities.rank_fit", str(folder), *names)
    return results_of_ranks(folder)


def main(folder: Path, names: list[str]) -> None:
    """Run one fit after the other; called on every rank."""
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    save_results({name: fit(name, folder, ranks=2) for name in names}, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
