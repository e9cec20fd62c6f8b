"""Numbers that are logged stay on the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from kdlight.modules.host_log import HostLog
from tests.support.device_questions import questions


class Logging(HostLog):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.found: Any = None

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        with questions() as found:
            self.log("number", 1234565.0 + batch_idx, prog_bar=True)
            self.log_dict({"count": 3, "flag": True})
        self.found = found
        self.log("reduced", 2.0, sync_dist=True)
        self.log("mean", torch.tensor(1.5), on_step=False, on_epoch=True)
        return self.layer(batch).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_numbers_are_logged_without_a_copy_and_unrounded(precision, tmp_path):
    module = Logging()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    batches: Any = [torch.ones(2)] * 3
    trainer.fit(module, DataLoader(batches))
    assert not module.found.asked
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert logged == {"number": 1234567.0, "count": 3.0, "flag": 1.0, "reduced": 2.0, "mean": 1.5}
