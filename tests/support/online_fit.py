"""Short fits of online distillation, on one process or two, for tests/modules.

The script runs several fits on ranks that Lightning starts. Its arguments are a JSON object of
options by name and the folder of the results.
"""

from __future__ import annotations

from functools import partial
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
from tests.support import rank_scripts, toy

Result = dict[str, Any]
Options = dict[str, Any]

STRATEGIES: dict[str, Any] = {
    "fsdp2": FSDP2Strategy,
    "tensor": lambda: FSDP2Strategy(tensor_parallel_size=2),
    "tensor head": lambda: FSDP2Strategy(tensor_parallel_size=2, divide_head=True),
}
WIDTHS = {"student": 6, "teacher": 12, "third": 8}
ADAM: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.01}


def make_objective(name: str) -> Objective:
    """Return BD-KD for the student, forward KL for the teacher, CTKD for the third network."""
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
        make_objective(name).double(),
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


def full_weights(trained: OnlineDistillationModule) -> dict[str, Tensor]:
    """Return all weights as full tensors."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value.clone()
        for name, value in trained.state_dict().items()
        if isinstance(value, Tensor)
    }


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Return the largest difference of two sets of weights, relative to the size of each."""
    assert first.keys() == second.keys()
    return max(((first[k] - second[k]).abs().max() / first[k].abs().max()).item() for k in first)


def fit(options: Options) -> Result:
    """Run one fit on three batches of eight sequences; return its weights and what it logged."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    strategy: Any = options.get("strategy", "auto")
    trainer = Trainer(
        accelerator="cpu",
        devices=options.get("ranks", 1),
        strategy=STRATEGIES[strategy]() if strategy in STRATEGIES else strategy,
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
    online = module(**options)
    data = toy.RaggedModule(options.get("batch_size", 8), count=24)
    with isolate_rng():
        trainer.fit(online, data)
    logged = {key: value.item() for key, value in trainer.callback_metrics.items()}
    return {"weights": full_weights(online), "logged": logged}


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.online_fit")


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit)
