"""Batches outside of the loops of the Trainer."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight.callbacks.training_batches import check_datamodule, repeated_batches
from kdlight.data.loaders import EpochSampler
from kdlight.objectives import ForwardKL
from tests.support import runs


def test_every_epoch_has_all_batches_in_an_order_of_its_own(tmp_path: Path) -> None:
    rows = list(torch.arange(16.0))
    loader = DataLoader(rows, batch_size=4, sampler=EpochSampler(16, seed=3))  # type: ignore[arg-type]
    module = runs.module(ForwardKL())
    batches = repeated_batches(runs.trainer(tmp_path), module, loader)
    first, second = (torch.cat(list(islice(batches, 4))) for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(16.0))
    assert torch.equal(second.sort().values, torch.arange(16.0))
    assert not torch.equal(first, second)


def test_a_loader_without_a_batch_is_refused(tmp_path: Path) -> None:
    module = runs.module(ForwardKL())
    loader = DataLoader(torch.zeros(0, 2), batch_size=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got no batch from the data module"):
        next(repeated_batches(runs.trainer(tmp_path), module, loader))


def test_a_fit_without_a_data_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Some takes its data from a LightningDataModule"):
        check_datamodule("Some", runs.trainer(tmp_path))
