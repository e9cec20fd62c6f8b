"""Teachers of earlier tasks, and a student that goes on from the last of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from kdlight import DistillationModule, FrozenTeacher, SingleInput, TeacherEnsemble
from kdlight.callbacks import TrainTasksFirst
from kdlight.data import DigitsDataModule
from kdlight.distributed import FSDP2Strategy
from kdlight.objectives import ForwardKL
from tests.support import toy

OLD, NEW = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]


def network(width: int = 32, *, seed: int = 0) -> SingleInput:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SingleInput(
            nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        )


def made(**teachers: Any) -> DistillationModule:
    """Return a module that learns nothing in the fit, so that only the callback changes weights."""
    teachers = teachers or {"first": network(seed=1), "second": network(seed=2)}
    return DistillationModule(
        network(),
        ForwardKL(),
        TeacherEnsemble(teachers, weigh_by="confidence"),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
    )


def tasks(**options: Any) -> TrainTasksFirst:
    first, second = (DigitsDataModule(batch_size=64, train_classes=each) for each in (OLD, NEW))
    return TrainTasksFirst({"first": first, "second": second}, **{"lr": 0.01, **options})


def fit(
    module: DistillationModule, *callbacks: Callback, folder: Path | None = None, **options: Any
) -> None:
    trainer = toy.trainer(folder or Path(), callbacks=list(callbacks), max_steps=1, **options)
    trainer.fit(module, DigitsDataModule(batch_size=64), ckpt_path=None)


def accuracy(network: nn.Module, classes: list[int]) -> float:
    images, labels = DigitsDataModule().validation_images.tensors
    kept = torch.isin(labels, torch.tensor(classes))
    with torch.no_grad():
        return (network((images,)).logits().argmax(-1) == labels)[kept].float().mean().item()  # type: ignore[operator]


def test_each_teacher_goes_on_from_the_one_before_and_the_student_from_the_last() -> None:
    runs = []
    for epochs in ({"first": 8, "second": 1}, {"first": 8, "second": 8}):
        module = made()
        fit(module, tasks(epochs=epochs))
        first, second = (each.model for each in module.teacher.by_name.values())
        assert accuracy(first, OLD) > 0.8
        assert accuracy(first, NEW) < 0.1
        assert not any(p.requires_grad for each in (first, second) for p in each.parameters())
        assert not second.training
        runs.append((first.state_dict(), second))
        student = module.student.state_dict()
        assert all(torch.equal(student[k], v) for k, v in second.state_dict().items())
    assert all(torch.equal(v, runs[1][0][k]) for k, v in runs[0][0].items())
    assert accuracy(runs[0][1], OLD) > 0.5  # one epoch from the weights of the first
    assert accuracy(runs[1][1], NEW) > 0.8


def test_a_resumed_run_keeps_the_weights_of_the_student(tmp_path: Path) -> None:
    module = made()
    trainer = toy.trainer(tmp_path, callbacks=[tasks(epochs=1)], max_steps=1)
    trainer.fit(module, DigitsDataModule(batch_size=64))
    with torch.no_grad():
        module.student.net[3].bias.fill_(3.0)  # type: ignore[union-attr]
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    resumed = made()
    run = toy.trainer(tmp_path, callbacks=[tasks(epochs=1)], max_steps=2)
    run.fit(resumed, DigitsDataModule(batch_size=64), ckpt_path=str(tmp_path / "end.ckpt"))
    assert (resumed.student.net[3].bias == 3.0).all()  # type: ignore[union-attr]
    for name in ("first", "second"):
        ours, theirs = (m.teacher.by_name[name].model.state_dict() for m in (module, resumed))
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": {"first": 1}}, ValueError, r"names of the tasks .* got \['first'\]"),
        ({"epochs": {"first": 1, "second": 0}}, ValueError, r"epochs\['second'\] must .* got 0"),
        ({"lr": 0.0}, ValueError, "lr must .*got 0.0"),
        ({"tasks": {}}, ValueError, "at least one task"),
        ({"tasks": {"a": 3}}, TypeError, r"tasks\['a'\]"),
        ({"tasks": [3]}, TypeError, "tasks must be a dict"),
    ],
)
def test_arguments_are_checked(options: Any, error: type[Exception], message: str) -> None:
    data = DigitsDataModule()
    with pytest.raises(error, match=message):
        TrainTasksFirst(**{"tasks": {"first": data, "second": data}, **options})


def test_parts_that_do_not_fit_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="whose teacher is .* got no such teacher"):
        fit(DistillationModule(network(), ForwardKL(), network(seed=1)), tasks())
    with pytest.raises(ValueError, match=r"networks with these names, got \['a', 'b'\]"):
        fit(made(a=network(seed=1), b=network(seed=2)), tasks())
    with pytest.raises(ValueError, match="'second' and the student must have the same layers"):
        fit(made(first=FrozenTeacher(network(seed=1)), second=network(9)), tasks())
    trainer = toy.trainer(Path(), strategy=FSDP2Strategy(), devices=2)
    with pytest.raises(ValueError, match="but FSDP2Strategy shards it; use one device"):
        tasks().setup(trainer, made(), "fit")
    tasks().setup(trainer, made(), "validate")  # which trains nothing
