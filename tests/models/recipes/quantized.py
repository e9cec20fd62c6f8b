"""Runs of quantized students, in one process and on ranks.

As a script it runs one fit after the other on ranks, see `tests.support.rank_scripts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from torch import Tensor, nn

from kdlight import DistillationModule, FrozenTeacher
from kdlight.callbacks import ExportStudent
from kdlight.data.loaders import ResumableLoader
from kdlight.models import CausalLM, Quantized
from kdlight.models.pruning.layer_pruning import prune_layers
from tests.support import rank_scripts, toy
from tests.support.split_fit import full_tensor

Options = dict[str, Any]


def module(options: Options) -> DistillationModule:
    """Return a quantized student of a tiny model with tied embeddings, or with none."""
    dtype = getattr(torch, options.get("dtype", "float64"))
    torch.manual_seed(5)
    network = options.get("network", "llama")
    base: nn.Module = toy.NETWORKS[network](seed=1).to(dtype)
    if network == "llama":
        assert isinstance(base, CausalLM)
        base = CausalLM.wrap(prune_layers(base.model, options.get("layers", 2)))
    recipe = Quantized(
        base,
        bits=options.get("bits", 2),
        scheme=options.get("scheme", "uniform"),
        bucket=options.get("bucket", 24),  # 64 weights are 2 buckets and a part, on 2 ranks or 1
        skip=options.get("skip", ["first", "last"]),
    )
    return DistillationModule(
        student=recipe,
        teacher=FrozenTeacher(toy.NETWORKS[network](12, seed=2).to(dtype)),
        objective=toy.mixture().to(dtype),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    )


def trained(folder: Path, *, start: Path | None = None, **options: Any) -> DistillationModule:
    """Train in this process."""
    callbacks = options.pop("callbacks", [])
    this = module(options)
    trainer = toy.trainer(
        folder,
        max_steps=options.get("steps", 4),
        callbacks=callbacks,
        enable_checkpointing=bool(callbacks),
    )
    loader = ResumableLoader(toy.Ragged(), batch_size=8, collate_fn=toy.pad)
    trainer.fit(this, loader, ckpt_path=start)
    return this


def fit(options: Options) -> Options:
    """Run one fit of two epochs, on one process or on several; return the whole weights."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    this = module(options)
    callbacks: list[Any] = []
    if "export" in options:
        callbacks.append(ExportStudent(directory=options["export"]))
    strategy: Any = options.get("strategy", "auto")
    if strategy == "fsdp2":
        from kdlight.distributed import FSDP2Strategy

        strategy = FSDP2Strategy(tensor_parallel_size=options.get("tensor_parallel", 1))
    ranks = options.get("ranks", 1)
    trainer = toy.trainer(
        Path(options.get("folder", ".")),
        max_epochs=2,
        devices=ranks,
        strategy=strategy,
        accumulate_grad_batches=options.get("accumulate", 1),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
    )
    trainer.fit(this, toy.RaggedModule(8 // ranks, count=24))
    weights = {
        name: full_tensor(value).detach() for name, value in this.student.state_dict().items()
    }
    return {
        "parameters": {name: value.clone() for name, value in weights.items()},
        "validated": {name: value.item() for name, value in trainer.callback_metrics.items()},
    }


def logits(model: Any) -> Tensor:
    ids = torch.arange(toy.VOCABULARY)[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def originals(student: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are quantized, in full precision."""
    return {
        name: value.detach().clone()
        for name, value in student.named_parameters()
        if name.endswith(".original")
    }


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError, RuntimeError))
