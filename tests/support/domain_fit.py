"""Short fits on three domains that are drawn by weights, on one process or several.

The script runs several fits on ranks, see `tests.support.rank_scripts`.
"""

from __future__ import annotations

import random
import string
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from kdlight import CachedTeacher, CausalLM, DistillationModule, FrozenTeacher
from kdlight.callbacks import DomainReweighting, ExactResume
from kdlight.data import DomainDataModule
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import CrossEntropy, ForwardKL, Weighted
from tests.support import rank_scripts, tiny_lm, toy
from tests.support.split_fit import full_tensor

SIGNS = {"letters": string.ascii_letters, "digits": string.digits, "signs": string.punctuation}
DOCUMENTS = {"letters": 40, "digits": 30, "signs": 20}
BLOCK = 12


def write_domains(folder: Path) -> dict[str, str]:
    """Write documents of random signs, another kind of signs for each domain."""
    files, generator = {}, random.Random(0)
    for name, signs in SIGNS.items():
        files[name] = str(folder / name / "*.txt")
        if (folder / name).exists():
            continue
        (folder / name).mkdir(parents=True)
        for number in range(DOCUMENTS[name]):
            text = "".join(generator.choices(signs, k=generator.randint(20, 60)))
            (folder / name / f"{number:02}.txt").write_text(text)
    return files


def data(folder: Path, **options: Any) -> DomainDataModule:
    sizes = {"block_size": BLOCK, "batch_size": 4, "validation_fraction": 0.2, "seed": 1}
    return DomainDataModule(tiny_lm.tokenizer(), write_domains(folder), **sizes | options)


def network(seed: int, *, dropout: float = 0.0) -> CausalLM:
    model = tiny_lm.model(seed=seed).double()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = dropout
    return CausalLM.wrap(model)


def module(*, teacher: Any = "live", dropout: float = 0.0, **options: Any) -> DistillationModule:
    terms = {"cross_entropy": CrossEntropy(), "forward_kl": ForwardKL()}
    return DistillationModule(
        network(1, dropout=dropout),
        Weighted(terms, weights={"forward_kl": 0.2}),
        FrozenTeacher(network(2)) if teacher == "live" else teacher,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5, momentum=0.9),
        **options,
    )


class Seen(Callback):
    """Keeps which training blocks each batch of this rank has, and what a step logs."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.logged: list[dict[str, float]] = []
        self._numbers: dict[tuple[int, ...], int] = {}

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: dict[str, Tensor], *args: Any
    ) -> None:
        if not self._numbers:
            blocks = trainer.datamodule.parts[0]
            rows = (tuple(each["input_ids"].tolist()) for each in blocks)
            self._numbers = {row: number for number, row in enumerate(rows)}
            assert len(self._numbers) == len(blocks)
        self.batches.append([self._numbers[tuple(row)] for row in batch["input_ids"].tolist()])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        values = {k: v.item() for k, v in trainer.callback_metrics.items() if "domain_" in k}
        self.logged.append(values)


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Fit, and return which blocks were seen, the history of the weights and the parameters."""
    seed_everything(0, verbose=False)
    folder = Path(options["folder"])
    reweighting, seen = DomainReweighting(**options.get("reweighting", {"every": 3})), Seen()
    callbacks: list[Callback] = [reweighting, seen, ExactResume()]
    if "save_every" in options:
        callbacks.append(
            ModelCheckpoint(
                Path(options.get("saved", folder / "checkpoints")),
                filename="{step}",
                save_top_k=-1,
                every_n_train_steps=options["save_every"],
            )
        )
    strategy = options.get("strategy", "auto")
    trainer = toy.trainer(
        folder,
        callbacks=callbacks,
        devices=options.get("ranks", 1),
        strategy=FSDP2Strategy() if strategy == "fsdp2" else strategy,
        enable_checkpointing="save_every" in options,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        log_every_n_steps=1,
        **{"max_steps": 8} | options.get("trainer", {}),
    )
    teacher = CachedTeacher(options["cache"]) if "cache" in options else "live"
    this = module(teacher=teacher, dropout=options.get("dropout", 0.0))
    domains = data(folder, **options.get("data", {}))
    trainer.fit(this, domains, ckpt_path=options.get("resume"))
    return {
        "batches": seen.batches,
        "logged": seen.logged,
        "history": reweighting.history,
        "teacher_perplexity": reweighting.teacher_perplexity,
        "plan": domains.sampler.draws.plan,
        "sizes": domains.sampler.draws.sizes,
        "parameters": {
            name: full_tensor(value) for name, value in this.student.state_dict().items()
        },
    }


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.domain_fit", timeout=200)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError,))
