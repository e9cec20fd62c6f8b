"""The next batch is announced one step before, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, IterableDataset

from kdlight import FrozenTeacher
from kdlight.callbacks import ExactResume
from kdlight.modules.lookahead import Lookahead
from tests.support.served_fit import Rows, causal_lm, largest_difference, module, trainer


class Announced(FrozenTeacher):
    """A teacher that writes down what it is told and asked."""

    is_remote = True  # pyright: ignore[reportAssignmentType]
    looks_ahead = True  # pyright: ignore[reportAssignmentType]

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.calls: list[tuple[str, int]] = []

    def expect(self, batch: Any) -> None:
        self.calls.append(("expect", int(batch["input_ids"].sum())))

    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> Any:
        self.calls.append(("answer", int(batch["input_ids"].sum())))
        return super().answer(batch, student, labels)


class PlainRows(Rows):
    """Rows of a loader that does not save its position."""

    def train_dataloader(self) -> Any:
        rows: Any = self.rows
        return DataLoader(rows, self.batch_size, collate_fn=self.collate)


def run(teacher: Any, folder: Path, *, data: Any = None, **options: Any) -> Any:
    made = module(teacher)
    ckpt_path = options.pop("ckpt_path", None)
    trainer(folder, **options).fit(made, data or Rows(), ckpt_path=ckpt_path)
    return made.student.state_dict()


@pytest.mark.parametrize("data", [Rows, PlainRows])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_is_announced_before_the_one_before_it_is_answered(
    data: Any, accumulate: int, tmp_path: Path
) -> None:
    teacher = Announced(causal_lm())
    run(teacher, tmp_path, data=data(), accumulate_grad_batches=accumulate)
    asked = [number for call, number in teacher.calls if call == "answer"]
    assert len(asked) == 4
    for before, after in zip(asked, asked[1:], strict=False):
        assert teacher.calls.index(("expect", after)) < teacher.calls.index(("answer", before))


def test_the_fit_is_the_same(tmp_path: Path) -> None:
    plain = run(FrozenTeacher(causal_lm()), tmp_path, max_epochs=2)
    assert largest_difference(plain, run(Announced(causal_lm()), tmp_path, max_epochs=2)) == 0


class ChangesBatches(Callback):
    changes_batches = True


def test_where_batches_are_changed_nothing_is_announced(tmp_path: Path) -> None:
    teacher = Announced(causal_lm())
    run(teacher, tmp_path, callbacks=[ChangesBatches()])
    # each batch is announced when it is trained on, and not before
    assert [call for call, _ in teacher.calls] == ["expect", "answer"] * 4


class OwnState(DataLoader):
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None: ...


class OwnRows(Rows):
    def train_dataloader(self) -> Any:
        rows: Any = self.rows
        return OwnState(rows, self.batch_size, collate_fn=self.collate)


def test_a_loader_with_a_state_of_its_own_is_left_alone(tmp_path: Path) -> None:
    teacher = Announced(causal_lm())
    run(teacher, tmp_path, data=OwnRows())
    assert [call for call, _ in teacher.calls] == ["expect", "answer"] * 4


@pytest.mark.parametrize("exact", [True, False])
def test_a_run_resumes_with_the_batch_after_the_last_one(exact: bool, tmp_path: Path) -> None:
    """A batch that was only looked at is not skipped."""
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}

    def callbacks() -> list[Any]:
        saved = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        return [saved, *([ExactResume()] if exact else [])]

    whole = run(Announced(causal_lm()), tmp_path, callbacks=callbacks(), **options)
    for step in (2, 5):
        path = str(tmp_path / f"step={step}.ckpt")
        teacher = Announced(causal_lm())
        resumed = run(teacher, tmp_path / "b", callbacks=callbacks(), ckpt_path=path, **options)
        assert largest_difference(whole, resumed) == 0
        assert sum(call == "answer" for call, _ in teacher.calls) == 8 - step


def test_peeking_takes_nothing() -> None:
    batches = Lookahead(iter(range(3)), [])
    assert [(batches.peek(), batches.peek(), next(batches)) for _ in range(3)] == [
        (n, n, n) for n in range(3)
    ]
    assert batches.peek() is None
    with pytest.raises(StopIteration):
        next(batches)


def test_a_loader_knows_what_was_only_looked_at() -> None:
    loader = Rows().train_dataloader()
    batches = Lookahead(iter(loader), [loader])
    next(batches)
    assert loader.state_dict()["batches"] == 1
    ahead = batches.peek()
    assert loader.state_dict()["batches"] == 1
    assert torch.equal(next(batches)["input_ids"], ahead["input_ids"])
    assert loader.state_dict()["batches"] == 2


class Stream(IterableDataset):
    """One stream for all epochs."""

    def __init__(self) -> None:
        self.numbers = iter(range(3, 100))

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from (torch.full((6,), number) for number in self.numbers)


class StreamedRows(Rows):
    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()

    def train_dataloader(self) -> Any:
        return DataLoader(self.stream, 1, collate_fn=self.collate)


def test_a_batch_beyond_the_limit_is_not_taken_from_a_stream(tmp_path: Path) -> None:
    asked = []
    for teacher in (Announced(causal_lm()), NeverAhead(causal_lm())):
        run(teacher, tmp_path, data=StreamedRows(), limit_train_batches=3, max_epochs=3)
        asked.append([number for call, number in teacher.calls if call == "answer"])
    assert asked[0] == asked[1]


class NeverAhead(Announced):
    looks_ahead = False  # pyright: ignore[reportAssignmentType]
