"""A teacher is calibrated before the first step, and the steps that follow learn from it there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from kdlight import FrozenTeacher, SelectiveTeacher, SingleInput, TeacherEnsemble
from kdlight.callbacks import CalibrateTeacherFirst, TemperatureScaling, TrainTeacherFirst
from kdlight.objectives import CrossEntropy, TopKForwardKL, Weighted
from kdlight.sources import TopK
from kdlight.teachers import Teacher
from tests.support import calibration_fit
from tests.support.calibration_fit import (
    FACTOR,
    Data,
    Recorder,
    Scaled,
    calibrated_data,
    module,
    trainer,
)

CRITERIA: tuple[Any, ...] = ("nll", "ece")


def live(factor: float = FACTOR) -> FrozenTeacher:
    return FrozenTeacher(SingleInput(Scaled(factor)))


class Kept(Teacher):
    """Stands for a cached teacher: three of five tokens of an overconfident one."""

    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> TopK:
        return TopK.of(live()(batch).logits(), 3)


def seen(this: Any) -> Tensor:
    """The teacher's probabilities that the first step learned from."""
    return this.objective.seen[0]


def first_batch() -> tuple[Tensor, Tensor]:
    x, y = Data().train[:60]
    return x, y


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_steps_learn_from_the_teacher_at_the_temperature_found(
    criterion: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback, this = CalibrateTeacherFirst(criterion), module()
    run = trainer(tmp_path, callback, max_epochs=1)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        run.fit(this, Data())
    assert callback.result is not None
    temperature = callback.temperature
    assert temperature is not None
    assert temperature == pytest.approx(FACTOR, rel=0.15)
    for name in CRITERIA:
        assert callback.result[name]["after"] < callback.result[name]["before"] / 2
    x, _ = first_batch()
    torch.testing.assert_close(seen(this), (FACTOR * x / temperature).softmax(-1))
    assert run.callback_metrics["train/teacher_temperature"].item() == pytest.approx(temperature)
    found = callback.result[criterion]
    assert run.callback_metrics[f"val/teacher_{criterion}"].item() == pytest.approx(
        found["after"], rel=1e-4
    )
    assert f"the {criterion} of the teacher is lowest at temperature" in caplog.text
    assert this.calibration_temperature == 1.0  # after the fit


def test_it_is_the_temperature_that_temperature_scaling_finds(tmp_path: Path) -> None:
    first, later = CalibrateTeacherFirst(), TemperatureScaling("teacher")
    trainer(tmp_path, first, later, max_epochs=1).fit(module(), Data())
    assert later.result is not None
    assert first.temperature == later.result["temperature"]


def test_an_average_is_calibrated_as_a_whole(tmp_path: Path) -> None:
    teacher = TeacherEnsemble({"one": live(4.0), "two": live(9.0)})
    callback, this = CalibrateTeacherFirst(), module(teacher)
    trainer(tmp_path, callback, max_steps=1).fit(this, Data())
    x, _ = first_batch()
    mean = ((4 * x).softmax(-1) + (9 * x).softmax(-1)) / 2
    assert callback.temperature is not None
    assert 3 < callback.temperature < 9
    expected = (mean.log() / callback.temperature).softmax(-1)
    torch.testing.assert_close(seen(this), expected)


def test_of_a_cached_teacher_the_tokens_that_it_has_are_calibrated(tmp_path: Path) -> None:
    callback, this = CalibrateTeacherFirst(), module(Kept())
    trainer(tmp_path, callback, max_steps=1).fit(this, Data())
    assert callback.temperature == pytest.approx(FACTOR, rel=0.15)
    x, _ = first_batch()
    torch.manual_seed(0)
    student = module().student((x,)).logits()
    kept = TopK.of(FACTOR * x, 3)
    assert callback.temperature is not None
    kept.temperature = callback.temperature
    torch.testing.assert_close(seen(this), kept.given_student(student).softmax(-1))


def test_rows_that_a_teacher_is_not_asked_about_stay_those_of_the_student(tmp_path: Path) -> None:
    teacher = SelectiveTeacher(live(), ask="errors")
    callback, this = CalibrateTeacherFirst(), module(teacher)
    trainer(tmp_path, callback, max_steps=1).fit(this, Data())
    x, y = first_batch()
    student = module().student((x,)).logits().detach()
    assert callback.temperature is not None
    asked = student.argmax(-1) != y
    assert 0 < asked.sum() < len(asked)
    expected = torch.where(asked[:, None], FACTOR * x / callback.temperature, student).softmax(-1)
    torch.testing.assert_close(seen(this), expected)


def test_a_temperature_of_the_objective_divides_both_in_addition(tmp_path: Path) -> None:
    """A term of a sum gets the calibrated teacher, and is 0 at a match at any temperature."""
    objective = Weighted({"kd": Recorder(temperature=3.0), "ce": CrossEntropy()})
    callback, this = CalibrateTeacherFirst(), module(objective=objective)
    trainer(tmp_path, callback, max_steps=1).fit(this, Data())
    x, _ = first_batch()
    assert callback.temperature is not None
    kd: Any = objective.terms["kd"]
    assert not kd.seen  # the terms are evaluated together, token by token
    this.calibration_temperature = callback.temperature
    inputs = this.make_loss_inputs(first_batch(), FACTOR * x / callback.temperature, FACTOR * x)
    assert kd(inputs).mean().item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_teacher_that_is_trained_first_is_calibrated_as_trained(
    before: bool, tmp_path: Path
) -> None:
    calibrate, train = CalibrateTeacherFirst(), TrainTeacherFirst(epochs=1, lr=0.05)
    this = module()
    order = [calibrate, train] if before else [train, calibrate]
    trainer(tmp_path, *order, max_steps=1).fit(this, Data())
    factor = this.teacher.model.net.factor.item()
    assert factor < FACTOR - 0.2
    assert calibrate.temperature == pytest.approx(factor, rel=0.15)
    x, _ = first_batch()
    assert calibrate.temperature is not None
    torch.testing.assert_close(seen(this), (factor * x / calibrate.temperature).softmax(-1))


class Random(Callback):
    """Keeps the state of the random numbers before the first batch."""

    def on_train_batch_start(self, *args: Any) -> None:
        self.state = torch.get_rng_state()


def test_the_search_draws_no_random_numbers(tmp_path: Path) -> None:
    states = []
    for callbacks in ([], [CalibrateTeacherFirst()]):
        this, random = module(), Random()
        torch.manual_seed(7)
        # validation data that are loaded later, if nothing needs them before
        options = {"max_epochs": 1, "check_val_every_n_epoch": 2}
        trainer(tmp_path, *callbacks, random, **options).fit(this, Data())
        states.append(random.state)
    assert torch.equal(*states)


def test_labels_to_train_on_are_still_checked(tmp_path: Path) -> None:
    data = Data()
    data.train.tensors[1][3] = 77
    with pytest.raises(ValueError, match="77"):
        trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1).fit(module(), data)
    plain = module()
    with pytest.raises(ValueError, match="77"):
        trainer(tmp_path, max_steps=1).fit(plain, data)


def test_the_teacher_is_as_it_was_after_an_error(tmp_path: Path) -> None:
    class Fails(Callback):
        seen = 0.0

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            self.seen = pl_module.calibration_temperature
            raise RuntimeError("stop")

    this, fails = module(), Fails()
    with pytest.raises(RuntimeError, match="stop"):
        trainer(tmp_path, CalibrateTeacherFirst(), fails, max_epochs=1).fit(this, Data())
    assert fails.seen > 2
    assert this.calibration_temperature == 1.0


def saved(folder: Path, *callbacks: Callback, epochs: int, **options: Any) -> Any:
    this = module()
    saving = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    data = options.pop("data", None) or Data()
    run = trainer(folder, *callbacks, saving, max_epochs=epochs, enable_checkpointing=True)
    run.fit(this, data, **options)
    return this


def test_a_resumed_run_uses_the_temperature_of_its_checkpoint(tmp_path: Path) -> None:
    callback = CalibrateTeacherFirst()
    whole = saved(tmp_path / "whole", callback, epochs=2)
    path = tmp_path / "whole" / "epoch=0.ckpt"
    x, y = calibrated_data(1).tensors
    others = Data(held_out=TensorDataset(x, y.roll(1)))  # where a search would find another one
    again = CalibrateTeacherFirst()
    resumed = saved(tmp_path / "resumed", again, epochs=2, ckpt_path=path, data=others)
    assert again.result == callback.result
    weights = zip(whole.student.parameters(), resumed.student.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    with pytest.warns(UserWarning, match="CalibrateTeacherFirst"):  # that it is missing
        raw = saved(tmp_path / "raw", epochs=2, ckpt_path=path)
    weights = zip(whole.student.parameters(), raw.student.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in weights)
    # the same callback in a new run searches again
    trainer(tmp_path, again, max_steps=1).fit(module(live(2.0)), Data())
    assert again.temperature == pytest.approx(2.0, rel=0.15)
    # and a checkpoint without a temperature has none to use, whatever the last run found
    saved(tmp_path / "without", epochs=1)
    path = tmp_path / "without" / "epoch=0.ckpt"
    saved(tmp_path / "with", again, epochs=2, ckpt_path=path)
    assert again.temperature == callback.temperature


def test_a_fit_that_goes_on_does_not_search_again(tmp_path: Path) -> None:
    callback, this = CalibrateTeacherFirst(), module()
    run = trainer(tmp_path, callback, max_epochs=1)
    run.fit(this, Data())
    result = callback.result
    run.fit_loop.max_epochs = 2
    run.fit(this, Data())
    assert callback.result is result


def test_another_module_of_the_same_trainer_has_a_temperature_of_its_own(tmp_path: Path) -> None:
    callback = CalibrateTeacherFirst()
    run = trainer(tmp_path, callback, max_epochs=1)
    found = []
    for epochs, factor in ((1, 4.0), (2, 9.0)):
        run.fit_loop.max_epochs = epochs
        run.fit(module(live(factor)), Data())
        found.append(callback.temperature)
    assert found == pytest.approx([4.0, 9.0], rel=0.15)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("kind", ["average", "cached"])
def test_chunks_change_nothing(kind: str, chunked: bool, tmp_path: Path) -> None:
    teacher = Kept() if kind == "cached" else TeacherEnsemble({"a": live(4.0), "b": live(9.0)})
    callback, this = CalibrateTeacherFirst(), module(teacher)
    this.chunked = chunked
    trainer(tmp_path, callback, max_steps=1).fit(this, Data())
    assert callback.temperature is not None
    assert 3 < callback.temperature < 9


def test_a_temperature_at_the_end_of_the_range_is_a_warning(tmp_path: Path) -> None:
    x, _ = calibrated_data(1).tensors
    right = Data(held_out=TensorDataset(x, x.argmax(-1)))
    with pytest.warns(UserWarning, match="the teacher has all validation labels right"):
        trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1).fit(module(), right)


OBJECTIVES: dict[str, tuple[Any, str]] = {
    "labels": (CrossEntropy, "the objective, CrossEntropy, needs none"),
    "own temperature": (
        lambda: Weighted({"kd": TopKForwardKL(temperature=2.0), "ce": CrossEntropy()}),
        "TopKForwardKL has one of its own, 2.0, beside 1.0 of the student",
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_fit_without_a_use_for_it_is_refused_before_the_search(name: str, tmp_path: Path) -> None:
    make, message = OBJECTIVES[name]
    callback = CalibrateTeacherFirst()
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, callback, max_steps=1).fit(module(objective=make()), Data())
    assert callback.result is None


def test_a_fit_without_validation_data_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1)
    with pytest.raises(ValueError, match="on validation data, but this fit has none"):
        run.fit(module(), DataLoader(calibrated_data(), 60))
    run = trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1, limit_val_batches=0)
    with pytest.raises(ValueError, match="limit_val_batches is 0"):
        run.fit(module(), Data())


def test_validation_data_without_labels_are_refused(tmp_path: Path) -> None:
    x, y = calibrated_data(1).tensors
    unlabelled = Data(held_out=TensorDataset(x, torch.full_like(y, -100)))
    with pytest.raises(ValueError, match="found no valid label in the validation data"):
        trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1).fit(module(), unlabelled)
    without = Data(held_out=TensorDataset(x))
    with pytest.raises(ValueError, match="CalibrateTeacherFirst needs labels"):
        trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1).fit(module(), without)


def test_an_average_that_knows_the_labels_is_refused(tmp_path: Path) -> None:
    teacher = TeacherEnsemble({"one": live(), "two": live(2.0)}, weigh_by="confidence")
    with pytest.raises(ValueError, match="the weights of its average depend on the labels"):
        trainer(tmp_path, CalibrateTeacherFirst(), max_steps=1).fit(module(teacher), Data())


def test_it_is_refused_before_a_teacher_is_trained() -> None:
    confident = TeacherEnsemble({"one": live(), "two": live(2.0)}, weigh_by="confidence")
    run = Trainer(accelerator="cpu", barebones=True)
    with pytest.raises(ValueError, match="the weights of its average depend on the labels"):
        CalibrateTeacherFirst().setup(run, module(TeacherEnsemble({"inner": confident})), "fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"criterion": "brier"}, "criterion must be one of"), ({"bins": 0}, "bins must be at least")],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CalibrateTeacherFirst(**options)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    cases = {
        "ddp": {"strategy": "ddp", "criterion": "nll"},
        "fsdp2": {"strategy": "fsdp2", "criterion": "ece"},
    }
    return calibration_fit.fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "criterion"), [("ddp", "nll"), ("fsdp2", "ece")])
def test_two_ranks_calibrate_and_train_like_one_process(
    strategy: str, criterion: str, ranks: list[Any]
) -> None:
    alone = calibration_fit.fit({"criterion": criterion})
    for rank in ranks:
        result = rank[strategy]
        assert result["result"] == ranks[0][strategy]["result"]
        assert result["logged"] == pytest.approx(alone["logged"], rel=1e-6)
        for name in ("nll", "ece"):
            assert result["result"][name] == pytest.approx(alone["result"][name], rel=1e-4)
        for name, value in alone["student"].items():
            torch.testing.assert_close(result["student"][name], value)
