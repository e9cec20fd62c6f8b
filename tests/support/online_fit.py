"""Short fits of networks that learn together: see test_online.py and test_online_ranks.py.

As a script, run so that Lightning can start the ranks: its arguments are a JSON object of options
by name, and where to write the results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.distributed.tensor import DTensor

from kdlight import Learner, OnlineDistillationModule
from kdlight.callbacks import TemperatureScaling
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import (
    BDKD,
    CrossEntropy,
    ForwardKL,
    LearnableTemperature,
    Objective,
    ReverseKL,
    Weighted,
)
from tests.support import toy

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]
Options = dict[str, Any]

WIDTHS = {"student": 6, "teacher": 12, "third": 8}
ADAM: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.01}


def objective_of(name: str) -> Objective:
    """A student learns by BD-KD, a teacher by forward KL, a third with a learned temperature."""
    kd = {
        "student": lambda: BDKD(high=3.0, temperature=2.0),
        "teacher": ForwardKL,
        "third": lambda: LearnableTemperature(ReverseKL()),
    }[name]()
    return Weighted({"ce": CrossEntropy(), "kd": kd}, weights={"ce": 0.7})


def learner(name: str, options: Options) -> Learner:
    group = {"lr": 0.05} if name == "teacher" else None
    network = toy.NETWORKS[options.get("network", "toy")](WIDTHS[name], seed=len(name))
    return Learner(
        network.double(),
        objective_of(name).double(),
        group=group,
        clip=options.get("clips", {}).get(name),
    )


def module(**options: Any) -> OnlineDistillationModule:
    names = ["student", "teacher", "third"][: options.get("networks", 2)]
    return OnlineDistillationModule(
        {name: learner(name, options) for name in names},
        optimizer=lambda groups: torch.optim.AdamW(groups, **ADAM),
        updates=options.get("updates", "simultaneous"),
        chunked=options.get("chunked", False),
    )


def weights(trained: OnlineDistillationModule) -> dict[str, Tensor]:
    """All that was learned, whole."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value.clone()
        for name, value in trained.state_dict().items()
        if isinstance(value, Tensor)
    }


def fit(options: Options) -> Result:
    """One fit over three batches of eight sequences, and what it learned and logged."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    strategy: Any = options.get("strategy", "auto")
    trainer = Trainer(
        accelerator="cpu",
        devices=options.get("ranks", 1),
        strategy=FSDP2Strategy() if strategy == "fsdp2" else strategy,
        accumulate_grad_batches=options.get("accumulate", 1),
        gradient_clip_val=options.get("clip"),
        max_epochs=options.get("epochs", 1),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            TemperatureScaling(network, "ece", directory=options["scaled"])
            for network in (("student", "teacher") if "scaled" in options else ())
        ],
    )
    this = module(**options)
    data = toy.RaggedModule(options.get("batch_size", 8), count=24)
    with isolate_rng():
        trainer.fit(this, data)
    logged = {key: value.item() for key, value in trainer.callback_metrics.items()}
    return {"weights": weights(this), "logged": logged}


def fit_on_ranks(cases: dict[str, Options], folder: Path) -> list[dict[str, Result]]:
    """The fits of ``cases`` by two processes: what each wrote, by case."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.online_fit", json.dumps(cases), str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,  # ranks that wait for each other wait for ever
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def main(cases: dict[str, Options], folder: Path) -> None:
    """Every case after the other, on every rank."""
    torch.set_num_threads(1)
    results = {name: fit({"ranks": 2, **options}) for name, options in cases.items()}
    torch.save(results, folder / f"{os.environ.get('LOCAL_RANK', 0)}.pt")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
