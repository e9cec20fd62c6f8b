"""Short fits in stages: layer-wise, reverse KL, cross-entropy; on one process or two.

The script runs several fits on ranks that Lightning starts. Its arguments are a JSON object of
options by name and the folder of the results.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from kdlight import DistillationModule, FrozenTeacher
from kdlight.callbacks import ExactResume, HyperparameterScheduler, TrainLayersFirst
from kdlight.data.loaders import ResumableLoader
from kdlight.distributed import FSDP2Strategy
from kdlight.models import HybridMamba
from kdlight.objectives import CrossEntropy, ReverseKL, Weighted
from kdlight.schedules import Piecewise
from tests.support import rank_scripts, toy

Result = dict[str, Any]
Options = dict[str, Any]

LAYER_STEPS, BOUNDARY, STEPS, LR = 3, 3, 6, 0.2
LAYER_LR = {"toy": 0.05, "hybrid": 2e-3}
PAIRS = {
    "toy": {"layers.*": "layers.*"},
    "hybrid": {"layers.*.mamba": "layers.*.self_attn"},
}


def module(network: str = "toy", **options: Any) -> DistillationModule:
    """Return a module whose student is a toy, or a hybrid of Llama and Mamba-2."""
    student: Any = toy.ToyLM(seed=1).double()
    teacher: Any = toy.ToyLM(seed=2).double()
    if network == "hybrid":
        teacher = toy.llama(seed=2).double()
        student = HybridMamba([0], dtype="float64", chunk_size=4)
    return DistillationModule(
        student,
        Weighted({"kd": ReverseKL(), "ce": CrossEntropy()}, weights={"ce": 0.0}),
        FrozenTeacher(teacher),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=LR, momentum=0.9),
        **options,
    )


def callbacks(network: str = "toy", *, layers: bool = True) -> list[Callback]:
    """Return the callbacks of the three stages."""
    first = TrainLayersFirst(PAIRS[network], steps=LAYER_STEPS, lr=LAYER_LR[network])
    return [
        *([first] if layers else []),
        HyperparameterScheduler("weights.kd", Piecewise([1.0, 0.0], [BOUNDARY])),
        HyperparameterScheduler("weights.ce", Piecewise([0.0, 1.0], [BOUNDARY])),
    ]


class Data(toy.RaggedModule):
    """Ragged data whose loader knows how far it was."""

    def train_dataloader(self) -> ResumableLoader:
        own = super().train_dataloader().sampler
        return ResumableLoader(self.data, self.batch_size, sampler=own, collate_fn=self.collate)


class Record(Callback):
    """Keeps the student's weights after each optimizer step, and saves checkpoints at some."""

    def __init__(self, folder: Path | None = None, at: tuple[int, ...] = ()) -> None:
        self.folder, self.at = folder, at
        self.weights: list[dict[str, Tensor]] = []
        self.losses: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._keep(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx in self.at:
            assert self.folder is not None
            name = f"batch={trainer.fit_loop.total_batch_idx}.ckpt"
            trainer.save_checkpoint(self.folder / name)
        if pl_module.last_step is not None:
            self._keep(pl_module)
            self.losses.append(pl_module.last_step.loss)

    def _keep(self, pl_module: Any) -> None:
        state = pl_module.student.state_dict()
        self.weights.append({name: _whole(value).clone() for name, value in state.items()})


def _whole(value: Any) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def fit(options: Options) -> Result:
    """Run one fit of all stages; return the weights after each step, and the losses."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    network, strategy = options.get("network", "toy"), options.get("strategy", "auto")
    folder = Path(options["folder"]) if "folder" in options else None
    record = Record(folder, tuple(options.get("save", ())))
    stages = callbacks(network, layers=options.get("layers", True))
    trainer = Trainer(
        accelerator="cpu",
        devices=options.get("ranks", 1),
        strategy=FSDP2Strategy(tensor_parallel_size=1) if strategy == "fsdp2" else strategy,
        accumulate_grad_batches=options.get("accumulate", 1),
        num_sanity_val_steps=0,
        max_steps=options.get("steps", STEPS),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*stages, ExactResume(), record],
    )
    distilled = module(network, chunked=False)
    data = Data(options.get("batch_size", 8), count=24)
    with isolate_rng():
        trainer.fit(distilled, data, ckpt_path=options.get("resume"))
    first = next((each for each in stages if isinstance(each, TrainLayersFirst)), None)
    return {
        "weights": record.weights,
        "losses": record.losses,
        "layer_losses": [] if first is None else first.losses,
        "teacher": dict(distilled.teacher.networks()[0].state_dict()),
    }


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of weights, relative to the size of each."""
    assert one.keys() == other.keys()
    return max(
        ((one[k] - other[k]).abs().max() / one[k].abs().max().clamp(min=1e-30)).item() for k in one
    )


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.stages_fit")


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError,))
