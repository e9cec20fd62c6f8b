"""Short fits that several processes take part in: see test_split.py and test_strategies.py.

`fit` runs one in this process. As a script, run so that Lightning can start the ranks, it runs one
after another: its arguments are a JSON object of options by name, and where to write the results.
Each rank writes its own; a fit that raises writes what it raised.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor

from kdlight import Chunking
from kdlight.callbacks import AdaptiveTAID
from kdlight.modules import FSDP2Strategy
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
from tests.support import toy

ROOT = Path(__file__).parents[2]
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
    """Keeps what each optimizer step amounted to, and looks at what the strategy made of us."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.t: list[float] = []
        self.seen: Result = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        wrapped, teacher = trainer.strategy.model, pl_module.teacher.model
        names = [name for name, _ in wrapped.named_parameters()] + list(wrapped.state_dict())
        weight = next(teacher.parameters())
        self.seen = {
            "type": type(wrapped).__name__,
            "teacher_among_ours": [name for name in names if "teacher" in name],
            "teacher_type": type(teacher).__name__,
            "teacher_dtype": str(weight.dtype),
            "teacher_part": sum(_local(p).numel() for p in teacher.parameters())
            / sum(p.numel() for p in teacher.parameters()),
            "optimized": sum(len(g["params"]) for g in trainer.optimizers[0].param_groups),
            "student_part": sum(_local(p).numel() for p in pl_module.student.parameters())
            / sum(p.numel() for p in pl_module.student.parameters()),
        }

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        head = getattr(pl_module.student, "head", None)
        if head is not None:
            self.seen["head"] = type(head.weight.data).__name__, tuple(head.weight.shape)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        head = getattr(pl_module.student, "head", None)
        if head is not None:
            self.seen["head_gradient"] = _whole(head.weight.grad).abs().sum().item()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.last_step is not None:
            self.losses.append(pl_module.last_step.loss)
            self.t += [term.t for term in pl_module.modules() if isinstance(term, TAID)]


def _local(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(tensor: Any) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _strategy(options: Options) -> Any:
    name = options.get("strategy", "auto")
    if name == "fsdp2":
        return FSDP2Strategy(tensor_parallel_size=options.get("tensor_parallel", 1))
    if name == "model_parallel":
        return ModelParallelStrategy(options["ranks"], 1)
    return name


def fit(options: Options) -> Result:
    """One fit, and an evaluation or two after it."""
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
        # Lightning turns float16 on a CPU into bfloat16, unless one insists
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
    trainer.fit(module, data)
    learned = {
        name: _whole(value)
        for part in (module.student, module.objective)
        for name, value in part.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    result = {
        "parameters": {name: value.detach().clone() for name, value in learned.items()},
        "losses": watch.losses,
        "t": watch.t,
        "seen": watch.seen,
        "logged": {key: value.item() for key, value in trainer.callback_metrics.items()},
    }
    if options.get("evaluate"):
        result["validated"] = trainer.validate(module, data, verbose=False)[0]
        result["tested"] = trainer.test(module, data, verbose=False)[0]
        if not options.get("shard"):
            kept = [*module.teacher.model.parameters()]  # type: ignore[attr-defined]
            assert all(a is b for a, b in zip(weights, kept, strict=True))
        for name, value in module.student.state_dict().items():
            torch.testing.assert_close(_whole(value), learned[name], rtol=0, atol=0)
    return result


def fit_on_ranks(cases: dict[str, Options], folder: Path, *, ranks: int = 2) -> list[Result]:
    """The fits of ``cases`` by processes of their own: what each rank wrote, by case."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    cases = {name: {"ranks": ranks, **options} for name, options in cases.items()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.split_fit", json.dumps(cases), str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,  # ranks that wait for each other wait for ever
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [_when_written(folder / f"{rank}.pt") for rank in range(ranks)]


def _when_written(path: Path) -> Result:
    """The first rank does not wait for the others to write."""
    for _ in range(600):
        if path.exists():
            return torch.load(path)
        time.sleep(0.1)
    raise TimeoutError(f"{path.name} is not there a minute after the first rank was done")


def main(cases: dict[str, Options], folder: Path) -> None:
    """Every case after the other, on every rank."""
    torch.set_num_threads(1)
    results: Result = {}
    for name, options in cases.items():
        try:
            results[name] = fit(options)
        except (ValueError, RuntimeError) as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    path = folder / f"{os.environ.get('LOCAL_RANK', 0)}.pt"
    torch.save(results, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
