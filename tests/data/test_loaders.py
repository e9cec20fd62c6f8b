"""The order of an epoch, and a loader that is resumed within an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from kdlight.data.loaders import EpochSampler, ResumableLoader, eval_loader, train_loader


def test_an_epoch_is_a_permutation_of_its_own():
    sampler = EpochSampler(50, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]
    assert list(EpochSampler(50, seed=1)) != orders[1]


class Recorder(LightningModule):
    """Records the epochs and batches of its training steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch["input_ids"][:, 0].tolist()))
        return self.weight * 1.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Numbered(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index):
        return {"input_ids": torch.tensor([index])}


def run(folder: Path, *, max_steps: int, limit: float = 1.0, resume: str | None = None) -> Recorder:
    module = Recorder()
    loader = ResumableLoader(Numbered(), batch_size=2, sampler=EpochSampler(10, seed=0))
    trainer = Trainer(
        max_steps=max_steps,
        limit_train_batches=limit,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        ],
    )
    trainer.fit(module, loader, ckpt_path=resume)
    return module


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:Checkpoint directory")
@pytest.mark.parametrize("limit", [1.0, 3])
def test_a_resumed_run_sees_what_was_left(tmp_path, limit):
    """The run is interrupted after each step: within an epoch, at its end, in a later one."""
    whole = run(tmp_path / "whole", max_steps=12, limit=limit).seen
    assert len({tuple(batch) for _, batch in whole}) > 5  # epochs do not repeat each other
    for stop in range(1, 12):
        checkpoint = str(tmp_path / "whole" / f"step={stop}.ckpt")
        rest = run(tmp_path / f"rest{stop}", max_steps=12, limit=limit, resume=checkpoint).seen
        assert rest == whole[stop:], f"interrupted after step {stop}"


def test_processes_share_an_epoch():
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper

    def shares(epoch: int) -> list[list[int]]:
        result = []
        for rank in range(2):
            sampler = DistributedSamplerWrapper(
                EpochSampler(10, seed=0), num_replicas=2, rank=rank, shuffle=False
            )
            sampler.set_epoch(epoch)
            result.append(list(sampler))
        return result

    assert sorted(sum(shares(0), [])) == list(range(10))
    assert shares(0) != shares(1)


@pytest.mark.parametrize("make", [train_loader, eval_loader])
def test_batches_are_collated_by_the_given_function(make: Any) -> None:
    options = {"seed": 0} if make is train_loader else {"trainer": None}
    samples = [(torch.tensor(float(i)), torch.tensor(i)) for i in range(5)]
    loader = make(samples, batch_size=2, collate_fn=len, **options)
    assert list(loader) == [2, 2, 1]
