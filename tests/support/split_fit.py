"""Short fits on one process or several, for tests/distributed.

`fit` runs one fit in this process. The script runs several, one after the other, on ranks that
Lightning starts. Its arguments are a JSON object of options by name and the folder of the results.
Each rank writes its results to a file of its own; for a fit that raises, it writes the error.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor

from kdlight import Chunking
from kdlight.callbacks import AdaptiveTAID
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import (
    DACKL,
    REDI,
    TAID,
    CrossEntropy,
    ForwardKL,
    LearnableTemperature,
    Objective,
    SinkhornKD,
    Weighted,
)
from tests.support import rank_scripts, toy

Result = dict[str, Any]
Options = dict[str, Any]

OBJECTIVES: dict[str, Any] = {
    "mixture": toy.mixture,
    "kl": ForwardKL,
    "taid": lambda: Weighted({"kd": TAID(), "ce": CrossEntropy()}, weights={"ce": 0.1}),
    "temperature": lambda: Weighted({"kd": LearnableTemperature(), "ce": CrossEntropy()}),
    "sequences": toy.PerSequence,
    "dac_kl": lambda: Weighted({"kd": DACKL(gate="soft"), "ce": CrossEntropy()}),
    "sinkd": SinkhornKD,
    "sinkd_debiased": lambda: SinkhornKD(debiased=True, relative_epsilon=True, reduction="sum"),
    "sinkd_apart": lambda: SinkhornKD(gather=False),
    "redi": lambda: REDI(alpha=0.5),
    "redi_kd": lambda: REDI(alpha=0.5, kd=ForwardKL(), rejected_per_chosen=0.5),
    "two_units": lambda: Weighted({"kd": ForwardKL(), "each": toy.PerSequence()}),
}


class Watch(Callback):
    """Records the loss of each optimizer step, and how the strategy wrapped student and teacher."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.t: list[float] = []
        self.seen: Result = {}

    def _see_rows(self, head: Any, args: Any, output: Any) -> None:
        self.seen.setdefault("head_rows", args[0].shape[0])  # of the first batch

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        wrapped, teacher = trainer.strategy.model, pl_module.teacher.model
        names = [name for name, _ in wrapped.named_parameters()] + list(wrapped.state_dict())
        weight = next(teacher.parameters())
        head = getattr(teacher, "head", None)
        if head is not None:
            head.register_forward_hook(self._see_rows)
        self.seen = {
            "type": type(wrapped).__name__,
            "teacher_in_student": [name for name in names if "teacher" in name],
            "teacher_type": type(teacher).__name__,
            "teacher_dtype": str(weight.dtype),
            "teacher_part": sum(local_tensor(p).numel() for p in teacher.parameters())
            / sum(p.numel() for p in teacher.parameters()),
            "resumed": {
                name: full_tensor(p).detach().clone()
                for name, p in pl_module.student.named_parameters()
            },
            "optimized": sum(len(g["params"]) for g in trainer.optimizers[0].param_groups),
            "student_part": sum(local_tensor(p).numel() for p in pl_module.student.parameters())
            / sum(p.numel() for p in pl_module.student.parameters()),
        }

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        head = getattr(pl_module.student, "head", None)
        if head is not None:
            self.seen["head"] = type(head.weight.data).__name__, tuple(head.weight.shape)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        head = getattr(pl_module.student, "head", None)
        if head is not None:
            self.seen["head_gradient"] = full_tensor(head.weight.grad).abs().sum().item()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            self.losses.append(pl_module.last_step.loss)
            self.t += [term.t for term in pl_module.modules() if isinstance(term, TAID)]


def local_tensor(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Any) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _strategy(options: Options) -> Any:
    name = options.get("strategy", "auto")
    if name == "fsdp2":
        return FSDP2Strategy(
            tensor_parallel_size=options.get("tensor_parallel", 1),
            divide_head=options.get("divide_head", False),
            save_distributed_checkpoint=False,
        )
    if name == "model_parallel":
        return ModelParallelStrategy(options["ranks"], 1)
    return name


def fit(options: Options) -> Result:
    """Run one fit, and validation and test after it if configured."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    torch.manual_seed(0)
    objective: Objective = OBJECTIVES[options.get("objective", "mixture")]()
    precision = options.get("precision", "32-true")
    watch, schedule = Watch(), AdaptiveTAID(alpha=0.5)
    adaptive = any(isinstance(term, TAID) for term in objective.modules())
    trainer = Trainer(
        accelerator=options.get("accelerator", "cpu"),
        devices=options.get("ranks", 1),
        strategy=_strategy(options),
        # Lightning turns float16 on a CPU into bfloat16, except for a plugin
        plugins=MixedPrecision(precision, "cpu") if precision == "16-mixed" else None,
        precision=None if precision == "16-mixed" else precision,
        accumulate_grad_batches=options.get("accumulate", 1),
        gradient_clip_val=options.get("clip"),
        max_epochs=options.get("epochs", 1),
        limit_val_batches=options.get("validate", 1.0),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch, schedule] if adaptive else [watch],
    )
    module: Any = (
        toy.mixed(dtype=options.get("dtype", "float64"))
        if options.get("mixin")
        else toy.module(
            objective,
            normalization=options.get("normalization", "global"),
            dtype=options.get("dtype", "float64"),
            network=options.get("network", "toy"),
            shard=options.get("shard", False),
            chunked=Chunking(*options["chunked"]) if "chunked" in options else False,
        )
    )
    data = toy.RaggedModule(options["batch_size"], **options.get("data", {}))
    assert module.teacher is not None
    weights = [*module.teacher.model.parameters()]  # type: ignore[attr-defined]
    saved: dict[str, torch.Tensor] = {}
    trainer.fit(module, data, ckpt_path=options.get("load"))
    if "save" in options:
        trainer.save_checkpoint(options["save"])
        saved = torch.load(options["save"], weights_only=True)["state_dict"]
    trained = {
        name: full_tensor(value)
        for part in (module.student, module.objective)
        for name, value in part.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    result = {
        "parameters": {name: value.detach().clone() for name, value in trained.items()},
        "losses": watch.losses,
        "t": watch.t,
        "seen": watch.seen,
        "saved": saved,
        "logged": {key: value.item() for key, value in trainer.callback_metrics.items()},
    }
    if options.get("evaluate"):
        result["validated"] = trainer.validate(module, data, verbose=False)[0]
        result["tested"] = trainer.test(module, data, verbose=False)[0]
        if not options.get("shard"):
            parameters = [*module.teacher.model.parameters()]  # type: ignore[attr-defined]
            assert all(a is b for a, b in zip(weights, parameters, strict=True))
        for name, value in module.student.state_dict().items():
            torch.testing.assert_close(full_tensor(value), trained[name], rtol=0, atol=0)
    return result


def largest_difference(first: Result, second: Result) -> float:
    """Return the largest difference of two runs, relative to the size of each parameter."""
    assert "error" not in second, second["error"]
    a, b = first["parameters"], second["parameters"]
    assert a.keys() == b.keys()
    return max(((a[name] - b[name]).abs().max() / a[name].abs().max()).item() for name in a)


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.split_fit", timeout=300)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError, RuntimeError))
