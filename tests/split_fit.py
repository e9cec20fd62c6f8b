"""One short fit, run as a script so that Lightning can start its ranks: see test_split.py.

Arguments: a JSON object of options. Rank 0 writes the student's parameters and the logged losses.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy

from tests import toy


class Losses(Callback):
    """Keeps what each optimizer step amounted to."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            self.values.append(pl_module.last_step.loss)


def main(options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    strategy: Any = options.get("strategy", "auto")
    if strategy == "fsdp2":
        strategy = ModelParallelStrategy(data_parallel_size=options["ranks"], tensor_parallel_size=1)
    losses = Losses()
    trainer = Trainer(
        accelerator="cpu",
        devices=options.get("ranks", 1),
        strategy=strategy,
        precision=options.get("precision", "32-true"),
        accumulate_grad_batches=options.get("accumulate", 1),
        gradient_clip_val=options.get("clip"),
        max_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[losses],
    )
    module = toy.module(
        normalization=options.get("normalization", "global"),
        dtype=options.get("dtype", "float64"),
    )
    trainer.fit(module, toy.RaggedModule(options["batch_size"], count=options.get("count", 32)))
    parameters = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in module.student.state_dict().items()
    }
    if trainer.is_global_zero:
        torch.save({"parameters": parameters, "losses": losses.values}, options["output"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
