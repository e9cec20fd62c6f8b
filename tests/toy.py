"""Small networks and ragged data for runs with the real Trainer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from kdlight import DistillationModule, FrozenTeacher, Projected
from kdlight.objectives import CrossEntropy, ForwardKL, Objective, Weighted

VOCABULARY = 11


class ToyLM(nn.Module):
    """A language model without context, so that packing changes nothing: batch to `Projected`."""

    def __init__(self, dim: int = 6, *, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(VOCABULARY, dim)
            self.layers = nn.ModuleList([nn.Linear(dim, dim) for _ in range(2)])
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(dim, VOCABULARY)
        self.vocab_size = VOCABULARY

    def forward(self, batch: dict[str, Tensor]) -> Projected:
        hidden = self.embed(batch["input_ids"])
        for layer in self.layers:
            hidden = self.dropout(torch.tanh(layer(hidden)))
        return Projected(hidden, self.head)


class Ragged(Dataset):
    """Sequences of very different lengths; every seventh has no position that counts."""

    def __init__(self, count: int = 32, *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(2, 17, (count,), generator=generator).tolist()
        self.sequences = [
            torch.randint(VOCABULARY, (length,), generator=generator) for length in lengths
        ]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = self.sequences[index]
        labels = torch.full_like(ids, -100) if index % 7 == 6 else ids.clone()
        return {"input_ids": ids, "labels": labels}


def pad(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate to the longest row; padding is ignored by its label."""
    fill = {"input_ids": 0, "labels": -100}
    return {
        key: nn.utils.rnn.pad_sequence(
            [row[key] for row in rows], batch_first=True, padding_value=value
        )
        for key, value in fill.items()
    }


def loader(batch_size: int, *, count: int = 32, seed: int = 0) -> DataLoader:
    return DataLoader(Ragged(count, seed=seed), batch_size=batch_size, collate_fn=pad)


class RaggedModule(LightningDataModule):
    """Ragged data in a fixed order: the ranks of a step share out what one process would see."""

    def __init__(self, batch_size: int, *, count: int = 32) -> None:
        super().__init__()
        self.batch_size, self.data = batch_size, Ragged(count)

    def train_dataloader(self) -> DataLoader:
        trainer = self.trainer
        assert trainer is not None
        # Lightning's own sampler shuffles all training data as soon as there are two ranks
        sampler = DistributedSampler(
            self.data, trainer.world_size, trainer.global_rank, shuffle=False
        )
        return DataLoader(self.data, self.batch_size, sampler=sampler, collate_fn=pad)


def mixture() -> Objective:
    return Weighted({"kd": ForwardKL(temperature=2.0), "ce": CrossEntropy()}, weights={"ce": 0.3})


def module(
    objective: Objective | None = None,
    *,
    lr: float = 0.1,
    dtype: str = "float32",
    **kwargs: object,
) -> DistillationModule:
    """A toy student with a toy teacher; SGD, whose steps show the size of a gradient."""
    return DistillationModule(
        student=ToyLM(seed=1).to(getattr(torch, dtype)),
        teacher=FrozenTeacher(ToyLM(dim=9, seed=2), dtype=dtype),
        objective=mixture() if objective is None else objective,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=lr, momentum=0.9),
        **kwargs,  # type: ignore[arg-type]
    )
