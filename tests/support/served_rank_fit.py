"""Fits with a served teacher on ranks of their own; a script, started by `fit_on_ranks`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from kdlight import RemoteTeacher
from kdlight.distributed import FSDP2Strategy
from tests.support.rank_scripts import fit_as_rank
from tests.support.served_fit import Rows, module, trainer


def fit(case: dict[str, Any]) -> Any:
    """The student's weights after a fit, whole on every rank."""
    ranks = case.get("ranks", 1)
    strategy: Any = {"fsdp2": FSDP2Strategy(), "ddp": "ddp"}.get(case.get("strategy", ""), "auto")
    torch.manual_seed(0)  # of the networks of objectives
    made = module(RemoteTeacher(case["url"], **case.get("teacher", {})), case["name"])
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(Path(folder), devices=ranks, strategy=strategy, max_epochs=2)
        run.fit(made, Rows(batch_size=12 // ranks))  # an epoch is a step, in any order
    return {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in made.student.state_dict().items()
    }


if __name__ == "__main__":
    fit_as_rank(fit)
