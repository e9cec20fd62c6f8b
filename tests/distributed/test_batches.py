"""Checks of the numbers of batches and samples of all ranks."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, DistributedSampler

from kdlight.distributed.batches import check_training_batches
from tests.support import toy


def test_samples_that_count_twice_cause_a_warning(tmp_path: Path) -> None:
    def validate(samples: int) -> None:
        sampler = DistributedSampler(toy.Ragged(samples), 2, 0, shuffle=False)
        trainer = Trainer(
            default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False
        )
        loader = DataLoader(toy.Ragged(samples), 4, sampler=sampler, collate_fn=toy.pad)
        trainer.validate(toy.module(), loader, verbose=False)

    validate(8)
    with pytest.warns(UserWarning, match="1 of 7 evaluation samples count twice, since 2 ranks"):
        validate(7)


def trainer(**options: Any) -> Any:
    """A trainer of two ranks, of which the other has one batch less."""

    def all_gather(value: torch.Tensor) -> torch.Tensor:
        return torch.stack([value, value - 1 if value > 2 else value])

    strategy = SimpleNamespace(root_device=torch.device("cpu"), all_gather=all_gather)
    return SimpleNamespace(world_size=2, strategy=strategy, **options)


@pytest.mark.parametrize("batches", [3, 12.0])
def test_different_numbers_of_training_batches_raise(batches: float) -> None:
    counts = rf"\[{batches:.0f}, {batches - 1:.0f}\].*limit_train_batches={batches - 1:.0f}"
    with pytest.raises(ValueError, match=f"numbers of training batches, {counts}"):
        check_training_batches(trainer(num_training_batches=batches))


@pytest.mark.parametrize("batches", [2, math.inf])
def test_equal_or_unknown_numbers_of_training_batches_are_accepted(batches: float) -> None:
    check_training_batches(trainer(num_training_batches=batches))
