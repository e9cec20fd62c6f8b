"""Where a fit is in its draws, by the counters of the Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from kdlight.callbacks.domains.draw_position import DrawPosition
from tests.support import domain_fit, toy


class Positions(Callback):
    """Compares the position with what the sampler has really drawn, at the end of each batch."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.lags: list[int] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        sampler = trainer.datamodule.sampler
        self.position = DrawPosition(trainer, trainer.train_dataloader, sampler)
        assert self.position.next_free(0) == self.position.batches_ahead * 16

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.started = self.position.after_batch()

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        trained = self.position.after_batch()
        assert trained == self.started
        assert self.position.next_free(trained) == trainer.datamodule.sampler.drawn
        self.trained.append(trained)
        self.lags.append(self.position.lag(trained))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_position_is_that_of_the_sampler(workers: int, tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path, num_workers=workers, batch_size=16)
    size = len(domains.parts[0])
    positions = Positions()
    trainer = toy.trainer(tmp_path, callbacks=[positions], max_epochs=2, limit_val_batches=0)
    trainer.fit(domain_fit.module(), domains)
    batches = -(-size // 16)
    epoch = [min(16 * (number + 1), size) for number in range(batches)]
    assert positions.trained == epoch + [size + each for each in epoch]
    lags = [min(2 * workers, batches - number - 1) for number in range(batches)]
    assert positions.lags == lags * 2


def test_ranges_leave_out_what_a_limit_leaves_out(tmp_path: Path) -> None:
    domains = domain_fit.data(tmp_path)
    trainer = toy.trainer(tmp_path, max_epochs=3, limit_train_batches=5, limit_val_batches=0)
    trainer.fit(domain_fit.module(), domains)
    loader: Any = trainer.train_dataloader
    position, size = DrawPosition(trainer, loader, domains.sampler), len(domains.parts[0])
    ranges = position.trained_ranges(12, 2 * size + 8)
    assert [*ranges] == [(12, 20), (size, size + 20), (2 * size, 2 * size + 8)]
