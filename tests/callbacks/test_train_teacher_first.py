"""A teacher that is trained before the distillation starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule

from kdlight import DistillationModule, FrozenTeacher, TeacherEnsemble
from kdlight.callbacks import TrainTeacherFirst
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import toy


class Data(LightningDataModule):
    def train_dataloader(self) -> Any:
        return toy.loader(8)


@pytest.mark.parametrize(
    ("options", "message"), [({"epochs": 0}, "epochs .* got 0"), ({"lr": 0.0}, "lr .* got 0.0")]
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainTeacherFirst(**options)


def test_a_run_without_a_data_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes its data from a LightningDataModule"):
        toy.trainer(tmp_path, callbacks=[TrainTeacherFirst()]).fit(toy.module(), toy.loader(8))


def test_a_module_without_a_frozen_teacher_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(toy.ToyLM(), CrossEntropy())
    with pytest.raises(ValueError, match="whose teacher is a FrozenTeacher, .* teacher NoneType"):
        toy.trainer(tmp_path, callbacks=[TrainTeacherFirst()]).fit(module, Data())


def test_the_teacher_learns_and_is_frozen_again(tmp_path: Path) -> None:
    def cross_entropy(module: DistillationModule) -> float:
        with torch.no_grad():
            batches = list(toy.loader(8))
            inputs = [module.make_loss_inputs(b, module.teacher(b), None) for b in batches]
            return sum(CrossEntropy()(each).mean().item() for each in inputs)

    weights = []
    for _ in range(2):
        module = toy.module()
        before = cross_entropy(module)
        callback = TrainTeacherFirst(epochs=3, lr=0.05)
        toy.trainer(tmp_path, callbacks=[callback], max_steps=1).fit(module, Data())
        assert cross_entropy(module) < before - 0.1
        network = module.teacher.model
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        weights.append([p.clone() for p in network.parameters()])
        torch.rand(1)  # what is drawn elsewhere has no effect
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_every_network_of_an_ensemble_is_trained_once(tmp_path: Path) -> None:
    """Each as if it were the only teacher, whoever else shares it."""

    def teachers() -> dict[str, FrozenTeacher]:
        one, two = toy.ToyLM(12, seed=2), toy.ToyLM(9, seed=4)
        return {"one": FrozenTeacher(one), "two": FrozenTeacher(two), "warm": FrozenTeacher(one)}

    def fit(teacher: Any) -> None:
        module = DistillationModule(toy.ToyLM(seed=1), ForwardKL(), teacher)
        callback = TrainTeacherFirst(epochs=1, lr=0.05)
        toy.trainer(tmp_path, callbacks=[callback], max_steps=1).fit(module, Data())
        assert module.teacher is teacher

    together, alone = teachers(), teachers()
    fit(TeacherEnsemble(together))
    for name in ("one", "two"):
        fit(alone[name])
        trained, expected, new = (
            [*each[name].model.parameters()] for each in (together, alone, teachers())
        )
        assert all(map(torch.equal, trained, expected))
        assert not all(map(torch.equal, trained, new))
        assert not any(p.requires_grad for p in trained)
    assert together["warm"].model is together["one"].model


def test_an_ensemble_without_a_live_network_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(
        toy.ToyLM(),
        ForwardKL(),
        TeacherEnsemble({"a": FrozenTeacher(toy.ToyLM().forward)}),  # type: ignore[arg-type]
    )
    with pytest.raises(ValueError, match="trains the teacher, but a method has no weights"):
        toy.trainer(tmp_path, callbacks=[TrainTeacherFirst()]).fit(module, Data())
