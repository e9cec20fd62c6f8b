"""A pass over the data: interrupted and resumed, and of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import CachedTeacher, DistillationModule, FrozenTeacher, SingleInput
from kdlight.cache import CacheReader, Settings
from kdlight.cache.cache_pass import write_cache
from kdlight.objectives import ForwardKL
from tests.cache.caches import ALL, written
from tests.support import toy


def test_an_interrupted_pass_is_resumed_to_the_same_cache(tmp_path: Path) -> None:
    whole = CacheReader(written(tmp_path / "whole", Settings(k=5), shard_positions=30))
    folder = tmp_path / "part"

    class Stop(Exception):
        pass

    class Stopping(FrozenTeacher):
        calls = 0

        def answer(self, batch: Any, student: Any = None, labels: Any = None) -> Any:
            self.calls += 1
            if self.calls > 5:
                raise Stop
            return super().answer(batch, student, labels)

    module = toy.module()
    module.teacher = Stopping(toy.ToyLM(12, seed=2))
    run = (toy.RaggedModule(5), toy.trainer(tmp_path), str(folder), Settings(k=5))
    with pytest.raises(Stop):
        write_cache(module, *run, shard_positions=30)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    assert before
    write_cache(toy.module(), *run, shard_positions=30)
    part = CacheReader(folder)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert part.manifest.data["fingerprint"] == whole.manifest.data["fingerprint"]
    assert part.manifest.data["positions"] == whole.manifest.data["positions"]
    with pytest.raises(ValueError, match="not overwritten"):
        write_cache(toy.module(), *run)


class Points(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(20, 3, generator=generator)
        self.data = TensorDataset(points, torch.randint(4, (20,), generator=generator))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=6, shuffle=True)

    val_dataloader = train_dataloader


def test_classifiers_have_one_position_a_row(tmp_path: Path) -> None:
    net = nn.Linear(3, 4)
    module = DistillationModule(SingleInput(nn.Linear(3, 4)), ForwardKL(), SingleInput(net))
    write_cache(module, Points(), toy.trainer(tmp_path), str(tmp_path / "c"), ALL)
    teacher = CachedTeacher(str(tmp_path / "c"))
    points = Points().data.tensors[0]
    kept = teacher((points, torch.zeros(20, dtype=torch.long)))
    assert kept.shape == (20, 4)
    expected = net(points).log_softmax(-1)
    torch.testing.assert_close(kept.given_student(torch.zeros(20, 4)), expected.detach())
