"""A fit on a cached teacher is the fit on the live one, however the data come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import CachedTeacher, DistillationModule, FrozenTeacher, SingleInput
from kdlight.cache import CacheReader, Settings
from kdlight.cache.cache_pass import write_cache
from kdlight.objectives import ForwardKL, Objective, TopKForwardKL, build_objective
from tests.support import toy

ALL = Settings(k=None, bits=32)


class Shuffled(toy.RaggedModule):
    """Another order, other batches and other padding than when the cache was written."""

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(7)
        return DataLoader(
            self.data, self.batch_size, shuffle=True, generator=generator, collate_fn=self.collate
        )


def quiet(folder: Path, **options: Any) -> Trainer:
    return toy.trainer(folder, **options)


def written(folder: Path, settings: Settings = ALL, **options: Any) -> Path:
    path = folder / "cache"
    module, data = toy.module(), toy.RaggedModule(5)
    write_cache(module, data, quiet(folder), str(path), settings, **options)
    return path


def student_of(folder: Path, teacher: Any, objective: Objective, **options: Any) -> Any:
    """The student after a fit."""
    module = toy.module(objective)
    module.teacher = teacher or module.teacher
    data = Shuffled(options.pop("batch_size", 4))
    quiet(folder, max_epochs=2, **options).fit(module, datamodule=data)
    return module.student.state_dict()


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "taid", "topk_forward_kl"])
@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_with_all_tokens_it_is_the_live_fit(name: str, tail: Any, tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path)), tail=tail)
    cached = student_of(tmp_path, teacher, build_objective(name), accumulate_grad_batches=2)
    live = student_of(tmp_path, None, build_objective(name), accumulate_grad_batches=2)
    same_weights(cached, live, 1e-6)


def test_with_a_few_tokens_first_is_the_live_fit(tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path, Settings(k=4, bits=32))))
    objective = TopKForwardKL(k=3)
    same_weights(
        student_of(tmp_path, teacher, objective), student_of(tmp_path, None, objective), 1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_temperature_of_the_teacher_is_that_of_the_live_one(
    temperature: float, tmp_path: Path
) -> None:
    cached = CachedTeacher(str(written(tmp_path)), temperature=temperature)
    live = FrozenTeacher(toy.ToyLM(12, seed=2), temperature=temperature)
    fits = [student_of(tmp_path, each, ForwardKL()) for each in (cached, live)]
    same_weights(fits[0], fits[1], 1e-6)
    batch = next(iter(toy.loader(4)))
    plain = FrozenTeacher(toy.ToyLM(12, seed=2))(batch).logits()
    torch.testing.assert_close(live(batch).logits(), plain / temperature)


def test_validation_needs_no_live_teacher_either(tmp_path: Path) -> None:
    module = toy.module()
    module.teacher = CachedTeacher(str(written(tmp_path, Settings(k=6))))
    (values,) = quiet(tmp_path).validate(module, datamodule=toy.RaggedModule(4), verbose=False)
    assert values["val/forward_kl"] > 0
    assert values["val/teacher_accuracy"] >= 0


def test_a_small_cache_is_near(tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path, Settings(k=10, bits=8))))
    cached = student_of(tmp_path, teacher, ForwardKL())
    same_weights(cached, student_of(tmp_path, None, ForwardKL()), 1e-2)


def test_an_interrupted_pass_goes_on_and_ends_in_the_same(tmp_path: Path) -> None:
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
    run = (toy.RaggedModule(5), quiet(tmp_path), str(folder), Settings(k=5))
    with pytest.raises(Stop):
        write_cache(module, *run, shard_positions=30)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    assert before
    write_cache(toy.module(), *run, shard_positions=30)
    part = CacheReader(folder)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert part.manifest.data["fingerprint"] == whole.manifest.data["fingerprint"]
    assert part.manifest.data["positions"] == whole.manifest.data["positions"]
    with pytest.raises(ValueError, match="not written over"):
        write_cache(toy.module(), *run)


def test_a_row_that_is_missing_names_both_sides(tmp_path: Path) -> None:
    teacher = CachedTeacher(str(written(tmp_path)))
    other = next(iter(toy.loader(4, seed=5)))
    with pytest.raises(
        ValueError, match=r"4 of 4 rows .*52 sequences of RaggedModule.*beginning \["
    ):
        teacher(other)


def test_a_position_that_did_not_count_then_is_named(tmp_path: Path) -> None:
    def answers(rows: Any) -> dict[str, Tensor]:
        padded = toy.pad(rows)
        padded["labels"][:, :2] = -100
        return padded

    data = toy.RaggedModule(4)
    data.collate = answers
    write_cache(toy.module(), data, quiet(tmp_path), str(tmp_path / "cache"), ALL)
    teacher = CachedTeacher(str(tmp_path / "cache"))
    longest = [max(data.data, key=lambda row: len(row["input_ids"]))]  # type: ignore[call-overload]
    teacher(answers(longest))
    with pytest.raises(ValueError, match="1 positions count in this batch, but did not when"):
        teacher(toy.pad(longest))


def test_another_vocabulary_is_refused_before_the_fit(tmp_path: Path) -> None:
    module = toy.module()
    module.teacher = CachedTeacher(str(written(tmp_path)))
    module.student.vocab_size = 13  # type: ignore[assignment]
    with pytest.raises(ValueError, match="vocabularies differ: 11 and 13"):
        quiet(tmp_path).fit(module, datamodule=toy.RaggedModule(4))


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
    write_cache(module, Points(), quiet(tmp_path), str(tmp_path / "c"), ALL)
    teacher = CachedTeacher(str(tmp_path / "c"))
    points = Points().data.tensors[0]
    kept = teacher((points, torch.zeros(20, dtype=torch.long)))
    assert kept.shape == (20, 4)
    expected = net(points).log_softmax(-1)
    torch.testing.assert_close(kept.given_student(torch.zeros(20, 4)), expected.detach())


def test_only_a_live_teacher_at_temperature_one_is_written(tmp_path: Path) -> None:
    module = toy.module()
    run = (toy.RaggedModule(5), quiet(tmp_path), str(tmp_path / "again"), ALL)
    for teacher, why in (
        (CachedTeacher(str(written(tmp_path))), "only a live one"),
        (FrozenTeacher(toy.ToyLM(), temperature=2.0), "give the temperature to the CachedTeacher"),
        (None, "there is no teacher"),
    ):
        module.teacher = teacher
        with pytest.raises(ValueError, match=why):
            write_cache(module, *run)
