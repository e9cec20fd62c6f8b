"""A fit with a curriculum trains on one length per epoch, on one process and on two."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from kdlight import CausalLM, DistillationModule
from kdlight.data import TracesDataModule
from kdlight.data.traces import Trace, write_traces
from kdlight.objectives import CrossEntropy
from tests.support import tiny_lm, toy
from tests.support.forked_ranks import run_forked
from tests.support.rank_scripts import results_of_ranks, save_results

SIZES = (9, 6, 3)
PROMPTS = 6


class Seen(Callback):
    """Keeps the lengths of the responses of each epoch, end tokens left out."""

    def __init__(self) -> None:
        self.lengths: dict[int, list[int]] = {}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        sizes = ((batch["labels"] != -100).sum(1) - 1).tolist()
        self.lengths.setdefault(trainer.current_epoch, []).extend(sizes)


def fit(folder: Path, *, epochs: int = 4, **options: Any) -> dict[int, list[int]]:
    path = folder / f"traces{os.environ.get('LOCAL_RANK', 0)}.jsonl"
    write_traces(path, [Trace(f"p{i}", "x" * n, score=1) for i in range(PROMPTS) for n in SIZES])
    data = TracesDataModule(
        tiny_lm.tokenizer(),
        str(path),
        curriculum="long_to_short",
        validation_fraction=0.0,
        batch_size=2,
    )
    seen = Seen()
    options |= {"max_epochs": epochs, "limit_val_batches": 0}
    trainer = toy.trainer(folder, callbacks=[seen], **options)
    module = DistillationModule(CausalLM.wrap(tiny_lm.model()), CrossEntropy())
    trainer.fit(module, datamodule=data)
    return seen.lengths


def test_each_epoch_has_the_next_length(tmp_path: Path) -> None:
    seen = fit(tmp_path)
    expected = [*SIZES, SIZES[-1]]  # the last one stays
    assert seen == {epoch: [size] * PROMPTS for epoch, size in enumerate(expected)}


def test_a_run_with_fewer_epochs_ends_with_the_shortest(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=2) == {0: [SIZES[0]] * PROMPTS, 1: [SIZES[-1]] * PROMPTS}


@pytest.mark.slow
def test_two_ranks_share_the_prompts_of_each_epoch(tmp_path: Path) -> None:
    run_forked("tests.data.traces.test_curriculum_fit", str(tmp_path))
    half = PROMPTS // 2
    expected = {e: [size] * half for e, size in enumerate([*SIZES, SIZES[-1]])}
    assert results_of_ranks(tmp_path) == [expected, expected]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    save_results(fit(folder, devices=2, strategy="ddp"), folder)
