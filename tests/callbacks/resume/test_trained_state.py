"""A run that ends within a batch is resumed with that batch, by callbacks that count batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from kdlight.callbacks import ExactResume, OnPolicy, SequenceCorrection
from kdlight.callbacks.resume.trained_state import TrainedState
from kdlight.data.loaders import ResumableLoader
from kdlight.endpoints import ServerError
from kdlight.models import Sampling
from kdlight.modules.server_errors import NAME
from tests.callbacks.test_on_policy import Watch, loader, module
from tests.support import toy

COUNT = 9
"""Batches of an epoch."""


class Fails(Callback):
    """Ends the fit like a server that is gone, after other callbacks have begun with the batch."""

    def __init__(self, at: int | None) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.at:
            raise ServerError("http://teacher:8000 is gone", url="http://teacher:8000")


def run(
    folder: Path,
    kind: type[OnPolicy],
    *,
    at: int | None = None,
    accumulate: int = 1,
    exact: bool = True,
    ckpt_path: Path | None = None,
) -> tuple[list[Any], OnPolicy]:
    watch = Watch()
    callback = kind(fraction=0.7, refresh_every=2, sampling=Sampling(max_new_tokens=4), capacity=6)
    trainer = toy.trainer(
        folder,
        callbacks=[callback, watch, Fails(at), *([ExactResume()] if exact else [])],
        accumulate_grad_batches=accumulate,
        max_epochs=2,
    )
    made: Any = loader(4 * COUNT)
    batches = ResumableLoader(made.dataset, batch_size=4, collate_fn=made.collate_fn)
    trainer.fit(module(), batches, ckpt_path=ckpt_path, weights_only=False)
    return watch.batches, callback


@pytest.mark.parametrize("kind", [OnPolicy, SequenceCorrection])
@pytest.mark.parametrize(("at", "accumulate"), [(4, 1), (5, 1), (4, 3), (5, 3), (11, 3)])
def test_the_batch_that_failed_is_drawn_again(
    kind: type[OnPolicy], at: int, accumulate: int, tmp_path: Path
) -> None:
    whole, counts = run(tmp_path / "whole", kind, accumulate=accumulate)
    with pytest.raises(ServerError, match="The run was saved"):
        run(tmp_path / "part", kind, at=at, accumulate=accumulate)
    path = tmp_path / "part" / NAME
    rest, resumed = run(tmp_path / "rest", kind, accumulate=accumulate, ckpt_path=path)
    first = at - at % accumulate  # of the optimizer step
    assert len(rest) == 2 * COUNT - first
    for seen, expected in zip(rest, whole[first:], strict=True):
        assert all(torch.equal(seen[name], expected[name]) for name in expected)
    assert (resumed.batches, resumed.replaced) == (counts.batches, counts.replaced)


def test_without_exact_resume_the_batches_before_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ServerError):
        run(tmp_path, OnPolicy, at=5, accumulate=3, exact=False)
    saved = torch.load(tmp_path / NAME, weights_only=False)["callbacks"]["OnPolicy"]
    assert saved["batches"] == 5


def test_a_checkpoint_without_callbacks_is_left_alone() -> None:
    checkpoint: dict[str, Any] = {}
    TrainedState(OnPolicy()).put_into(checkpoint)
    assert checkpoint == {}
