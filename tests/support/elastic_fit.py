"""Short fits of a student of five layers and its sub-networks, on one process or several.

The script runs several fits on ranks, see `tests.support.rank_scripts`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from kdlight import CausalLM, DistillationModule, FrozenTeacher
from kdlight.callbacks import ElasticDepth
from kdlight.distributed import FSDP2Strategy
from kdlight.models import DepthShortcut, StudentRecipe
from kdlight.objectives import ForwardKL, Objective
from tests.support import rank_scripts, toy
from tests.support.split_fit import full_tensor, largest_difference

__all__ = ["largest_difference"]

DEPTH = 5


def llama(*, depth: int = DEPTH, seed: int = 0, **sizes: Any) -> CausalLM:
    """Return a language model of a few layers in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": toy.VOCABULARY,
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": depth,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "tie_word_embeddings": True,
            "eos_token_id": 0,
            "bos_token_id": 0,
            "initializer_range": 0.2,
        }
        | sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CausalLM.wrap(LlamaForCausalLM(config).double())


def module(
    objective: Objective | None = None, *, student: nn.Module | StudentRecipe | None = None
) -> DistillationModule:
    return DistillationModule(
        student=llama(seed=1) if student is None else student,
        teacher=FrozenTeacher(llama(seed=2)),
        objective=ForwardKL() if objective is None else objective,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    )


def trainer(folder: Any, *callbacks: Callback, **options: Any) -> Trainer:
    """Return a Trainer whose steps have four micro-batches."""
    saves = any(isinstance(each, ModelCheckpoint) for each in callbacks)
    return toy.trainer(
        folder,
        **{
            "callbacks": list(callbacks),
            "accumulate_grad_batches": 4,
            "enable_checkpointing": saves,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "log_every_n_steps": 1,
        }
        | options,
    )


class Logged(Callback):
    """Keeps what each optimizer step logs."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            metrics = trainer.callback_metrics.items()
            self.steps.append({key: value.item() for key, value in metrics if "depth" in key})


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Fit for two epochs, with a validation after each."""
    seed_everything(0, verbose=False)
    strategy = options.get("strategy", "auto")
    logged, student, callbacks = Logged(), cast(Any, llama(seed=1)), list[Callback]()
    elastic = ElasticDepth(
        2, max_parameters=options.get("budget"), directory=options.get("directory")
    )
    if "shortcut" in options:
        student = DepthShortcut(bottleneck=2, initial_weight=0.3)
    else:
        callbacks.append(elastic)
    run = trainer(
        options.get("folder"),
        *callbacks,
        logged,
        devices=options.get("ranks", 1),
        strategy=FSDP2Strategy() if strategy == "fsdp2" else strategy,
        max_epochs=2,
    )
    this = module(student=student)
    run.fit(this, toy.RaggedModule(options["batch_size"], count=options.get("count", 24)))
    weights = {name: full_tensor(value) for name, value in this.student.state_dict().items()}
    validated = {k: v.item() for k, v in run.callback_metrics.items() if "val/" in k}
    return {
        "parameters": weights,
        "steps": logged.steps,
        "validated": validated,
        "ranked": [tuple(each) for each in elastic.ranked],
    }


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.elastic_fit", timeout=200)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError, RuntimeError))
