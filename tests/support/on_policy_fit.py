"""A fit on two processes whose students generate; see test_on_policy_ranks.py.

It is a script, so that Lightning can launch the ranks. The batches of the ranks differ in width and
in the number of rows that can be continued. A rank that generated only when it needs to would make
fewer collective calls than the other, and wait for it forever.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.callbacks import SequenceCorrection
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import ForwardKL
from tests.callbacks.test_on_policy import Watch
from tests.support import toy
from tests.support.rank_scripts import save_results


class Uneven(LightningDataModule):
    """Rank 0 has responses to replace; rank 1 has wider batches, and at first no response."""

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        rank = self.trainer.global_rank

        def batch(index: Any) -> dict[str, Tensor]:
            ids = torch.arange(4 * (9 + 3 * rank)).view(4, -1) * (3 + rank) % 10 + 1
            labels = ids.clone()
            labels[:, :3] = -100
            if rank == 1 and index[0] < 4:
                labels[:] = -100
            return {"input_ids": ids, "labels": labels}

        return DataLoader(range(12), 4, collate_fn=batch)  # type: ignore[arg-type]


def fit(strategy: str, **options: Any) -> dict[str, Any]:
    """Train for three steps; return the batches and the loss of this rank."""
    seed_everything(0, verbose=False)
    watch, module = Watch(), toy.module(ForwardKL(), network="llama")
    correction = SequenceCorrection(**{"refresh_every": 2, **options})
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=FSDP2Strategy() if strategy == "fsdp2" else strategy,
        max_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[correction, watch],
    )
    trainer.fit(module, Uneven())
    return {
        "batches": watch.batches,
        "replaced": correction.replaced,
        "loss": trainer.callback_metrics["train/loss"].item(),
    }


def main(folder: Path) -> None:
    """Fit with each strategy, on every rank."""
    torch.set_num_threads(1)
    results = {strategy: fit(strategy) for strategy in ("ddp", "fsdp2")}
    save_results(results, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
