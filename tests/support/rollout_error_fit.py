"""A fit on two ranks whose server fails for the text of one; see test_on_policy_engine.py.

The server refuses texts that begin with `REFUSED`, after the first steps.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight.callbacks import OnPolicy
from kdlight.endpoints import ServerError
from kdlight.models import Sampling
from kdlight.rollouts import VLLMRollouts
from tests.callbacks.test_on_policy import module
from tests.support import toy

REFUSED = 7


class Rows(LightningDataModule):
    """Prompts of rank 1 begin with `REFUSED` from the third batch on."""

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        rank = self.trainer.global_rank

        def batch(index: Any) -> dict[str, Tensor]:
            ids = torch.arange(2 * 8).view(2, 8) % 5 + 1
            ids[:, 0] = REFUSED if rank == 1 and index[0] >= 4 else 2
            labels = ids.clone()
            labels[:, :3] = -100
            return {"input_ids": ids, "labels": labels}

        return DataLoader(range(8), 2, collate_fn=batch)  # type: ignore[arg-type]


def main(folder: Path, url: str) -> None:
    """Fit, and write the error of this rank."""
    torch.set_num_threads(1)
    engine = VLLMRollouts(url, folder=str(folder / "weights"), retries=0, timeout=20)
    options: dict[str, Any] = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    callback = OnPolicy(sampling=Sampling(temperature=0.0), engine=engine)
    told = "no error"
    try:
        toy.trainer(folder, callbacks=[callback], **options).fit(module(), Rows())
    except ServerError as error:
        told = str(error)
    rank = os.environ.get("LOCAL_RANK", "0")
    (folder / f"rank{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
