"""Fits with several teachers that are weighed at each position, on one process or on two ranks."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch import Callback

from kdlight import FrozenTeacher, TeacherEnsemble
from kdlight.distributed import FSDP2Strategy
from tests.support import rank_scripts, toy
from tests.support.split_fit import full_tensor

Result = dict[str, Any]


class Watch(Callback):
    """Records the parts of the loss of each optimizer step."""

    def __init__(self) -> None:
        self.parts: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            self.parts.append(pl_module.last_step.parts)


def fit(options: dict[str, Any]) -> Result:
    """Run one fit with two teachers, and validate."""
    sharded, ranks = options.get("strategy") == "fsdp2", options.get("ranks", 1)
    module = toy.module(dtype="float64", chunked=options.get("chunked", False))
    networks = {name: toy.ToyLM(12, seed=seed).double() for name, seed in (("a", 2), ("b", 3))}
    teachers = {name: FrozenTeacher(each, shard=sharded) for name, each in networks.items()}
    module.teacher = TeacherEnsemble(teachers, weigh_by="confidence")
    watch = Watch()
    trainer = toy.trainer(
        options.get("folder"),  # type: ignore[arg-type]
        devices=ranks,
        strategy=FSDP2Strategy() if sharded else options.get("strategy", "auto"),
        callbacks=[watch],
        accumulate_grad_batches=options.get("accumulate", 1),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, toy.RaggedModule(options["batch_size"]))
    parameters = {
        name: full_tensor(value).detach().clone()
        for name, value in module.student.state_dict().items()
    }
    logged = {key: value.item() for key, value in trainer.callback_metrics.items()}
    return {"parameters": parameters, "parts": watch.parts, "logged": logged}


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.ensemble_fit")


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit)
