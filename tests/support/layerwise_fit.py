"""Short fits of layer-wise distillation, on one process or two, for tests/modules.

The script runs several fits on ranks that Lightning starts. Its arguments are a JSON object of
options by name and the folder of the results.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.seed import isolate_rng

from kdlight import FrozenTeacher
from kdlight.modules.layerwise import LayerwiseDistillationModule
from tests.support import rank_scripts, toy

Result = dict[str, Any]
Options = dict[str, Any]

PAIRS = {"layers.0": "layers.0", "layers.1": "layers.1"}


def sgd(groups: Any) -> torch.optim.Optimizer:
    """Return SGD, whose steps depend on the size of a gradient."""
    return torch.optim.SGD(groups, lr=0.3, momentum=0.9)


def module(**options: Any) -> LayerwiseDistillationModule:
    """Return a module of two toy networks, in float64 unless a dtype is given."""
    wide = getattr(torch, options.get("dtype", "float64"))
    return LayerwiseDistillationModule(
        toy.ToyLM(seed=1).to(wide),
        FrozenTeacher(toy.ToyLM(seed=2).to(wide)),
        pairs=options.get("pairs", PAIRS),
        loss=options.get("loss", "mse"),
        optimizer=sgd,
        normalization=options.get("normalization", "global"),
    )


def fit(options: Options) -> Result:
    """Run one fit on three batches of eight sequences; return its weights and what it logged."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    precision = options.get("precision")
    trainer = Trainer(
        accelerator="cpu",
        devices=options.get("ranks", 1),
        strategy=options.get("strategy", "auto"),
        # Lightning turns float16 on a CPU into bfloat16, except for a plugin
        plugins=MixedPrecision(precision, "cpu") if precision else None,
        accumulate_grad_batches=options.get("accumulate", 1),
        gradient_clip_val=options.get("clip"),
        num_sanity_val_steps=0,
        max_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    layerwise = module(**options)
    before = {name: p.requires_grad for name, p in layerwise.named_parameters()}
    data = toy.RaggedModule(options.get("batch_size", 8), count=24)
    with isolate_rng():
        trainer.fit(layerwise, data)
    assert before == {name: p.requires_grad for name, p in layerwise.named_parameters()}
    logged = {key: value.item() for key, value in trainer.callback_metrics.items()}
    return {"weights": dict(layerwise.student.state_dict()), "logged": logged}


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.layerwise_fit")


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit)
