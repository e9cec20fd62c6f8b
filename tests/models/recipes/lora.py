"""Runs of LoRA students, and comparisons of their weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from kdlight import DistillationModule, LoRACausalLM
from kdlight.data.loaders import ResumableLoader
from tests.support import toy

Weights = dict[str, Tensor]


def trained(folder: Path, *, steps: int = 4, start: Path | None = None, **options: Any) -> Any:
    """Train a LoRA student; return its module, its weights before training, and its teacher."""
    teacher = toy.llama(seed=2)
    torch.manual_seed(5)
    module = DistillationModule(
        student=LoRACausalLM(layers=1, r=2, dropout=0.0),
        teacher=teacher,
        objective=toy.mixture(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.05),
    )
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing="callbacks" in options,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    before = copy.deepcopy(weights(module))
    loader = ResumableLoader(toy.Ragged(), batch_size=8, collate_fn=toy.pad)
    trainer.fit(module, loader, ckpt_path=start)
    return module, before, teacher


def weights(module: DistillationModule) -> Weights:
    return dict(module.student.state_dict())


def differing(one: Weights, other: Weights) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def logits(model: Any) -> Tensor:
    ids = torch.arange(toy.VOCABULARY)[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits
