"""Small networks and ragged data for runs with the real Trainer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kdlight import DistillationMixin, DistillationModule, FrozenTeacher, Projected, SingleInput
from kdlight.data.targets import batch_labels
from kdlight.distributed.sharding import shard as shard_network
from kdlight.objectives import CrossEntropy, ForwardKL, Loss, Objective, Weighted

VOCABULARY = 11


def trainer(folder: Path, **options: Any) -> Trainer:
    """Return a Trainer without logs and files on the CPU, of one epoch by default."""
    quiet: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    if "max_steps" not in options:
        quiet["max_epochs"] = 1
    return Trainer(**quiet | options)


class ToyLM(nn.Module):
    """A language model without context, from a batch to `Projected`; packing changes nothing."""

    def __init__(self, dim: int = 6, *, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(VOCABULARY, dim)
            self.layers = nn.ModuleList([nn.Linear(dim, dim) for _ in range(2)])
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(dim, VOCABULARY)
        self.vocab_size = VOCABULARY
        self.tensor_parallel_plan = {
            "layers.0": "colwise",
            "layers.1": "rowwise",
            "head": "colwise_gather_output",
        }

    def forward(self, batch: dict[str, Tensor]) -> Projected:
        hidden = self.embed(batch["input_ids"])
        for layer in self.layers:
            hidden = self.dropout(torch.tanh(layer(hidden)))
        return Projected(hidden, self.head)


def plain(dim: int = 6, *, seed: int = 0) -> SingleInput:
    """Return a network without layers to shard, from token ids to dense logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Embedding(VOCABULARY, dim), nn.Tanh(), nn.Linear(dim, VOCABULARY))
    return SingleInput(net, key="input_ids")


def llama(dim: int = 8, *, heads: int = 2, seed: int = 0, tied: bool = True) -> nn.Module:
    """Return a Hugging Face language model of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from kdlight import CausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        eos_token_id=0,
        bos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CausalLM.wrap(LlamaForCausalLM(config))


def untied(dim: int = 8, *, seed: int = 0) -> nn.Module:
    return llama(dim, seed=seed, tied=False)


def one_head(dim: int = 8, *, seed: int = 0) -> nn.Module:
    return llama(dim, heads=1, seed=seed)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "toy": ToyLM,
    "plain": plain,
    "llama": llama,
    "untied": untied,
    "one_head": one_head,
}


class Ragged(Dataset):
    """Sequences of very different lengths.

    Those in ``silent``, by default every seventh, have no valid position.
    """

    def __init__(
        self,
        count: int = 32,
        *,
        seed: int = 0,
        silent: Collection[int] | None = None,
        length: int | None = None,
        rejected: Collection[int] | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(2, 17, (count,), generator=generator).tolist()
        self.sequences = [
            torch.randint(VOCABULARY, (length or own,), generator=generator) for own in lengths
        ]
        self.silent = range(6, count, 7) if silent is None else silent
        self.rejected = rejected

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = self.sequences[index]
        labels = torch.full_like(ids, -100) if index in self.silent else ids.clone()
        sample = {"input_ids": ids, "labels": labels}
        if self.rejected is not None:
            sample["rejected"] = torch.tensor(index in self.rejected)
        return sample


def pad(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate to the longest row; padding is ignored by its label."""
    fill = {"input_ids": 0, "labels": -100}
    batch = {
        key: nn.utils.rnn.pad_sequence(
            [row[key] for row in rows], batch_first=True, padding_value=value
        )
        for key, value in fill.items()
    }
    if "rejected" in rows[0]:
        batch["rejected"] = torch.stack([row["rejected"] for row in rows])
    return batch


def pack(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate to one row; the first token of a sequence is not predicted."""
    labels = [row["labels"].clone() for row in rows]
    for each in labels:
        each[0] = -100
    ids = torch.cat([row["input_ids"] for row in rows])
    return {"input_ids": ids[None], "labels": torch.cat(labels)[None]}


def loader(batch_size: int, *, count: int = 32, seed: int = 0) -> DataLoader:
    return DataLoader(Ragged(count, seed=seed), batch_size=batch_size, collate_fn=pad)


class RaggedModule(LightningDataModule):
    """Ragged data in a fixed order, which the ranks of a step divide among them.

    Rank ``r`` of ``n`` has every n-th sequence from the r-th on, none of them twice. With
    ``short``, the last rank has as many batches less.
    """

    def __init__(
        self,
        batch_size: int,
        *,
        count: int = 32,
        packed: bool = False,
        short: int = 0,
        held_out: int = 27,
        **data: Any,
    ) -> None:
        super().__init__()
        self.batch_size, self.short = batch_size, short
        self.data = Ragged(count, **data)
        self.held_out = Ragged(held_out, seed=1)
        self.collate = pack if packed else pad

    def train_dataloader(self) -> DataLoader:
        own = self._own_rows(self.data)
        trainer = self.trainer
        assert trainer is not None
        if trainer.global_rank == trainer.world_size - 1:
            own = own[: len(own) - self.short * self.batch_size]
        return DataLoader(self.data, self.batch_size, sampler=own, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        own = self._own_rows(self.held_out)
        return DataLoader(self.held_out, 3, sampler=own, collate_fn=self.collate)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()

    def _own_rows(self, data: Ragged) -> range:
        trainer = self.trainer
        assert trainer is not None
        ranks = trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        return range(ranks["rank"], len(data), ranks["num_replicas"])


class PerSequence(Objective):
    """A loss that counts sequences: the sum of the mean of each over its positions."""

    unit = "sequence"

    def forward(self, inputs: Any) -> Loss:
        difference = inputs.student.logits() - inputs.teacher.logits()
        values = difference.square().sum(-1) * inputs.mask
        lengths = inputs.mask.sum(-1)
        return Loss((values.sum(-1) / lengths.clamp(min=1)).sum(), (lengths > 0).sum())


def mixture() -> Objective:
    return Weighted({"kd": ForwardKL(temperature=2.0), "ce": CrossEntropy()}, weights={"ce": 0.3})


def module(
    objective: Objective | None = None,
    *,
    lr: float = 0.1,
    dtype: str = "float32",
    network: str = "toy",
    shard: bool = False,
    **kwargs: object,
) -> DistillationModule:
    """Return a toy student and teacher; SGD, as its steps depend on the size of a gradient."""
    make, wide = NETWORKS[network], getattr(torch, dtype)
    return DistillationModule(
        student=make(seed=1).to(wide),
        teacher=FrozenTeacher(make(12, seed=2), dtype=dtype, shard=shard),
        objective=(mixture() if objective is None else objective).to(wide),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=lr, momentum=0.9),
        **kwargs,  # type: ignore[arg-type]
    )


class OwnModule(LightningModule):
    """A module that does not know kdlight, with a loss, an optimizer and sharding of its own."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        labels = batch_labels(batch)
        assert labels is not None
        logits = self.student(batch).logits().flatten(0, -2)
        total = nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum")
        return total / (labels != -100).sum().clamp(min=1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("own_loss", self.training_step(batch, batch_idx), sync_dist=True)

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard_network(self.student, self.device_mesh)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Mixed(DistillationMixin, OwnModule):
    def student_logits(self, batch: Any) -> Any:
        return self.student(batch)


def mixed(*, dtype: str = "float32") -> Mixed:
    """Return the mixin equivalent of `module`: one term of the mixture is the module's own loss."""
    wide = getattr(torch, dtype)
    teacher = FrozenTeacher(ToyLM(12, seed=2), dtype=dtype)
    kd = ForwardKL(temperature=2.0)
    return Mixed(ToyLM(seed=1).to(wide)).distill(kd, teacher, task_weight=0.3, chunked=False)
