"""Short fits of a student pruned by importance, on one process or several.

The script runs several fits on ranks, see `tests.support.rank_scripts`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch.utils.data import DataLoader

from kdlight import CausalLM, DistillationModule, FrozenTeacher, PrunedCausalLM
from kdlight.distributed import FSDP2Strategy
from tests.support import rank_scripts, toy
from tests.support.split_fit import full_tensor, largest_difference

__all__ = ["largest_difference"]

ARGUMENTS: dict[str, Any] = {
    "layers": {"keep": 2, "by": "importance"},
    "width": {"heads": 2, "feed_forward": 10, "hidden": 12},
    "batches": 2,
    "dtype": "float64",
}


class Shuffled(LightningDataModule):
    """Data in an order from the global random state, of all tokens without a Trainer."""

    def __init__(self, count: int = 16) -> None:
        super().__init__()
        self.count = count
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        self.rows = toy.Ragged(self.count, seed=3)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, 4, shuffle=True, collate_fn=toy.pad)


def teacher(dtype: str = "float64") -> CausalLM:
    """Return a language model of four layers, whose weights are large enough to differ."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=toy.VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.3,
        eos_token_id=0,
        bos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return CausalLM.wrap(LlamaForCausalLM(config).to(getattr(torch, dtype))).eval()


def module(recipe: PrunedCausalLM | None = None) -> DistillationModule:
    return DistillationModule(
        student=PrunedCausalLM(**ARGUMENTS, data=Shuffled()) if recipe is None else recipe,
        teacher=FrozenTeacher(teacher(), dtype="float64"),
        objective=toy.mixture().double(),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    )


def fit(options: dict[str, Any]) -> dict[str, Any]:
    """Fit for an epoch, with a validation at its end."""
    seed_everything(options.get("seed", 0), verbose=False)
    strategy = options.get("strategy", "auto")
    trainer: Trainer = toy.trainer(
        None,  # type: ignore[arg-type]
        devices=options.get("ranks", 1),
        strategy=FSDP2Strategy() if strategy == "fsdp2" else strategy,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    this = module()
    chosen = this.rebuilding["student"]["init_args"]["layers"]
    drawn = torch.rand(()).item()  # of the run's own random state
    trainer.fit(this, toy.RaggedModule(options["batch_size"], count=24))
    weights = {name: full_tensor(value) for name, value in this.student.state_dict().items()}
    validated = {k: v.item() for k, v in trainer.callback_metrics.items() if "val/" in k}
    return {"parameters": weights, "validated": validated, "layers": chosen, "drawn": drawn}


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.pruned_fit", timeout=200)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError, RuntimeError))
