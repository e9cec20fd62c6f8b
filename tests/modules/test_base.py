"""What all distillation modules have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight.callbacks import AdaptiveTAID
from kdlight.objectives import TAID, Loss
from tests.support import toy


def test_a_batch_without_valid_positions_changes_no_weight_and_no_schedule(
    tmp_path: Path,
) -> None:
    batch = {
        "input_ids": torch.zeros(2, 4, dtype=torch.long),
        "labels": torch.full((2, 4), -100),
    }
    module = toy.module(TAID())
    loss = module.objective(module.loss_inputs(batch))
    assert isinstance(loss, Loss)
    assert loss.total.item() == 0
    assert loss.total.requires_grad
    taid = AdaptiveTAID(alpha=0.5)
    before = {k: v.clone() for k, v in module.student.state_dict().items()}
    data: DataLoader = DataLoader([batch] * 3, batch_size=None)  # type: ignore[arg-type]
    toy.trainer(tmp_path, callbacks=[taid]).fit(module, data)
    assert taid.state.t == 0.4
    for name, value in module.student.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_unknown_normalization_raises() -> None:
    with pytest.raises(ValueError, match="normalization must be 'global' or 'local', got 'mean'"):
        toy.module(normalization="mean")
