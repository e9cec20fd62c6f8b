"""A resumed run continues to the same bits, whatever interrupted it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from torch.utils.data import DataLoader, IterableDataset

from kdlight.callbacks import ExactResume
from kdlight.data.loaders import ResumableLoader
from tests.support import resume_fit, toy
from tests.support.forked_ranks import Ended, start_forked

Result = dict[str, Any]

SCHEDULES = {
    "epochs": {"max_epochs": 2, "limit_val_batches": 0},
    "epochs, validated": {"max_epochs": 2},
    "epochs, validated within": {"max_epochs": 2, "val_check_interval": 3},
    "steps": {"max_steps": 6, "limit_val_batches": 0},
    "steps, validated": {"max_steps": 6},
    "steps, validated within": {
        "max_steps": 6,
        "val_check_interval": 3,
        "check_val_every_n_epoch": None,
    },
}


def check_same(resumed: Result, uninterrupted: Result, *, logged: int, name: str) -> None:
    """Check for the same weights, and the same rows of the log, at least from ``logged`` on."""
    a, b = resumed["parameters"], uninterrupted["parameters"]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a), name
    rows = len(resumed["rows"])
    total = len(uninterrupted["rows"])
    assert resumed["rows"] == uninterrupted["rows"][total - rows :], name
    assert rows >= total - logged, name


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_run_resumed_from_any_of_its_checkpoints_equals_an_uninterrupted_one(
    schedule: dict[str, Any], tmp_path: Path
) -> None:
    """Saved during accumulation of gradients, during validations, and between epochs.

    A row is logged after its step: one more than there were when the checkpoint was written.
    """
    saving = resume_fit.SaveEverywhere(tmp_path / "saved")
    uninterrupted = resume_fit.fit(tmp_path, [saving], trainer=schedule)
    assert len(saving.saved) >= 12
    for path, logged in saving.saved.items():
        resumed = resume_fit.fit(tmp_path, [], trainer=schedule, resume=str(path), seed=1)
        # Lightning considers a run complete after its last step, whatever was to follow it
        over = torch.load(path, weights_only=True)["global_step"] == schedule.get("max_steps")
        logged = len(uninterrupted["rows"]) if over else logged + 1
        check_same(resumed, uninterrupted, logged=logged, name=path.name)


def test_a_resumed_run_can_be_resumed(tmp_path: Path) -> None:
    """From a checkpoint within a validation, whose counters Lightning resets."""
    schedule = SCHEDULES["steps, validated within"]
    first = resume_fit.SaveEverywhere(tmp_path / "first")
    uninterrupted = resume_fit.fit(tmp_path, [first], trainer=schedule)
    middle = next(path for path in first.saved if "validation_batch" in path.name)
    second = resume_fit.SaveEverywhere(tmp_path / "second")
    resume_fit.fit(tmp_path, [second], trainer=schedule, resume=str(middle), seed=1)
    for path in second.saved:
        resumed = resume_fit.fit(tmp_path, [], trainer=schedule, resume=str(path), seed=2)
        check_same(resumed, uninterrupted, logged=len(uninterrupted["rows"]), name=path.name)


def launch(folder: Path, **options: Any) -> Ended:
    """Run `resume_fit` in its own processes."""
    arguments = json.dumps({**options, "folder": str(folder)})
    return start_forked("tests.support.resume_fit", arguments, ranks=options.get("ranks", 1))


def result(folder: Path, **options: Any) -> Result:
    done = launch(folder, **options)
    assert not any(done.codes), done.stderr
    return torch.load(folder / "result.pt")


STRATEGIES = [
    pytest.param({}, id="one process"),
    pytest.param({"ranks": 2, "strategy": "ddp", "count": 20}, id="ddp", marks=pytest.mark.slow),
    pytest.param(
        {"ranks": 2, "strategy": "fsdp2", "count": 20}, id="fsdp2", marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize("options", STRATEGIES)
def test_a_run_killed_during_accumulation_continues_to_the_same_bits(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Killed after the first of two micro-batches, in the middle of the second epoch."""
    killed = launch(tmp_path / "run", signal={"batch": 7, "name": "SIGKILL"}, **options)
    assert -signal.SIGKILL in killed.codes
    last = tmp_path / "run" / "checkpoints" / "step=4.ckpt"
    assert last.exists()
    assert not last.with_name("step=5.ckpt").exists()
    resumed = result(tmp_path / "run", resume=str(last), **options)
    uninterrupted = result(tmp_path / "uninterrupted", **options)
    assert len(resumed["rows"]) == 3  # of steps 5 and 6, and of a validation
    check_same(resumed, uninterrupted, logged=len(uninterrupted["rows"]) - 3, name="killed")


def test_a_loader_that_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path, callbacks=[ExactResume()])
    with pytest.raises(ValueError, match="DataLoader has no state_dict; use kdlight.data.loaders"):
        run.fit(toy.module(), toy.loader(8))


def test_a_checkpoint_made_without_exact_resume_is_warned_of(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    run.fit(resume_fit.module(), resume_fit.NoisyData(4))
    run.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.warns(UserWarning, match="made without ExactResume.*other random numbers"):
        resume_fit.fit(tmp_path, [], resume=str(tmp_path / "plain.ckpt"))


class Stream(IterableDataset):
    """Samples in one order."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        data = toy.Ragged(8)
        yield from (data[index] for index in range(len(data)))


class SizedStream(Stream):
    def __len__(self) -> int:
        return 8


class StreamData(resume_fit.NoisyData):
    def train_dataloader(self) -> DataLoader:
        return self.loader(self.stream(), batch_size=2, collate_fn=toy.pad)

    loader: Any = ResumableLoader
    stream: Any = SizedStream


class SaveSteps(Callback):
    """Saves after every micro-batch, whether or not a step was completed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: list[Path] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.saved.append(self.folder / f"{len(self.saved)}.ckpt")
        trainer.save_checkpoint(self.saved[-1])


STREAMS = {
    "epochs": {"max_epochs": 2, "limit_val_batches": 0},
    "steps, validated within": SCHEDULES["steps, validated within"],
}


LENGTH = "ignore:Your `IterableDataset` has `__len__` defined:UserWarning"


@pytest.mark.filterwarnings(LENGTH)
@pytest.mark.parametrize("schedule", STREAMS.values(), ids=STREAMS)
def test_a_stream_with_a_length_is_resumed_exactly(
    schedule: dict[str, Any], tmp_path: Path
) -> None:
    def fit(resume: str | None, seed: int, *callbacks: Any) -> list[torch.Tensor]:
        seed_everything(seed)
        run = toy.trainer(
            tmp_path, **schedule, accumulate_grad_batches=2, callbacks=[ExactResume(), *callbacks]
        )
        run.fit(module := resume_fit.module(), StreamData(8), ckpt_path=resume)
        return [each.detach().clone() for each in module.parameters()]

    saving = SaveSteps(tmp_path / "saved")
    uninterrupted = fit(None, 0, saving)
    assert len(saving.saved) >= 3
    for path in saving.saved:
        resumed = fit(str(path), 1)
        assert all(map(torch.equal, resumed, uninterrupted)), path.name


@pytest.mark.filterwarnings(LENGTH)
@pytest.mark.parametrize(
    ("loader", "stream", "message"),
    [
        (ResumableLoader, Stream, "data with a length, but Stream has none: .*define __len__"),
        (DataLoader, SizedStream, "DataLoader has no state_dict; use kdlight.data.loaders"),
    ],
    ids=["without a length", "without a position"],
)
def test_a_stream_that_cannot_be_resumed_is_refused(
    loader: Any, stream: Any, message: str, tmp_path: Path
) -> None:
    data = StreamData(8)
    data.loader, data.stream = loader, stream
    run = toy.trainer(tmp_path, callbacks=[ExactResume()], max_epochs=1, max_steps=4)
    with pytest.raises(ValueError, match=message):
        run.fit(toy.module(), data)
