"""Short fits of a RoutedKD among three teachers, one of them masked, on one process or several.

`fit` runs one fit in this process. As a script it runs several, one after the other, on ranks that
Lightning starts, like `tests.support.split_fit`.
"""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch import Trainer, seed_everything

from kdlight import Chunking, DistillationModule, FrozenTeacher, TeacherEnsemble
from kdlight.callbacks import TrainMasksFirst
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import CrossEntropy, RoutedKD, Weighted
from kdlight.teachers import MaskedTeacher
from tests.support import rank_scripts, toy
from tests.support.split_fit import Options, Result, full_tensor

RAGGED = {"count": 27, "silent": [0, 1, 3, 5, 7, 10, 11]}  # the second rank has none in a step


def module(options: Options) -> DistillationModule:
    """Return a module whose gate reads a layer of the student."""
    frozen = FrozenTeacher(toy.ToyLM(12, seed=2).double())
    torch.manual_seed(3 + options.get("rank", 0))  # ranks need not start alike
    one = MaskedTeacher(frozen, ["layers.0"])
    one.masks.double()
    two = FrozenTeacher(toy.ToyLM(9, seed=4).double())
    objective = RoutedKD(
        ["plain", "masked", "other"], gate_input="layers.1", **options.get("objective", {})
    )
    made = DistillationModule(
        toy.ToyLM(seed=1).double(),
        Weighted({"kd": objective, "ce": CrossEntropy()}, {"ce": 0.3}),
        TeacherEnsemble({"plain": frozen, "masked": one, "other": two}),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        chunked=Chunking(*options["chunked"]) if "chunked" in options else False,
    )
    made.objective.double()
    return made


def fit(options: Options) -> Result:
    """Train the masks for two steps, then the student for an epoch."""
    ranks = options.get("ranks", 1)
    if ranks > 1:
        seed_everything(0, verbose=False)
    strategy = options.get("strategy", "auto")
    masks = TrainMasksFirst(steps=2, lr=0.05)
    trainer = Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=FSDP2Strategy(tensor_parallel_size=1) if strategy == "fsdp2" else strategy,
        max_epochs=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[masks],
    )
    made = module({**options, "rank": trainer.global_rank})
    trainer.fit(made, toy.RaggedModule(8 // ranks, **RAGGED))
    assert made.teacher is not None
    parts = {"student": made.student, "objective": made.objective}
    trained = {f"{name}.{key}": v for name, p in parts.items() for key, v in p.state_dict().items()}
    trained |= made.teacher.by_name["masked"].state_dict()
    return {
        "parameters": {name: full_tensor(v).detach().clone() for name, v in trained.items()},
        "losses": masks.losses,
        "logged": {key: value.item() for key, value in trainer.callback_metrics.items()},
    }


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.routed_fit", timeout=300)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit)
