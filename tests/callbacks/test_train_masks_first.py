"""Masks are trained before the fit, once, and are there again after a resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from kdlight import (
    DistillationMixin,
    DistillationModule,
    FrozenTeacher,
    SingleInput,
    TeacherEnsemble,
)
from kdlight.callbacks import TrainMasksFirst, TrainTeacherFirst
from kdlight.distributed import FSDP2Strategy
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives import CrossEntropy, ForwardKL, RoutedKD, Weighted
from kdlight.sources import as_source
from kdlight.teachers import MaskedTeacher
from tests.support import runs

WIDE = 8


class Data(LightningDataModule):
    def train_dataloader(self) -> Any:
        return runs.loader()


def network(seed: int) -> SingleInput:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(runs.WIDTH, WIDE), nn.Tanh(), nn.Linear(WIDE, runs.CLASSES)
        return SingleInput(nn.Sequential(*layers))


def made(student: nn.Module | None = None) -> DistillationModule:
    """Return a module whose teachers are a network, and the same network with two masks."""
    frozen = FrozenTeacher(network(2))
    [*frozen.model.parameters()][2].data.mul_(8)  # its head: surer than the student
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one, two = (MaskedTeacher(frozen, ["net.0"], heads=heads) for heads in (1, 2))
        routed = RoutedKD(["plain", "one", "two"], gate_input="net.1", gate_size=WIDE)
    return DistillationModule(
        network(1) if student is None else student,
        Weighted({"kd": routed, "ce": CrossEntropy()}),
        TeacherEnsemble({"plain": frozen, "one": one, "two": two}),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    )


def masked(module: DistillationModule) -> list[MaskedTeacher]:
    return [each for each in module.teacher.teachers() if isinstance(each, MaskedTeacher)]


def weights(module: DistillationModule) -> list[Tensor]:
    """All that a run has: student, gate and masks."""
    masks = [p for each in masked(module) for p in each.masks.parameters()]
    return [p.detach().clone() for p in (*module.parameters(), *masks)]


def fit(
    callbacks: list[Callback], module: DistillationModule | None = None, **options: Any
) -> DistillationModule:
    module = made() if module is None else module
    ckpt_path = options.pop("ckpt_path", None)
    trainer = runs.trainer(Path(), *callbacks, **{"max_epochs": 1, **options})
    trainer.fit(module, datamodule=Data(), ckpt_path=ckpt_path)
    return module


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be .*got 0.0"),
        ({"temperature": -1.0}, "temperature must be .*got -1.0"),
        ({"student_steps": -1}, "student_steps must be .*got -1"),
        ({"seed": -1}, "seed must be .*got -1"),
    ],
)
def test_numbers_outside_their_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainMasksFirst(**options)


def test_runs_without_masks_or_data_are_refused() -> None:
    plain = DistillationModule(network(1), ForwardKL(), network(2))
    with pytest.raises(ValueError, match="has a .*MaskedTeacher, got a DistillationModule with te"):
        fit([TrainMasksFirst()], plain)
    with pytest.raises(ValueError, match="takes its data from a LightningDataModule"):
        runs.trainer(Path(), TrainMasksFirst()).fit(made(), runs.loader())
    with pytest.raises(ValueError, match="put it before TrainMasksFirst in the list"):
        fit([TrainMasksFirst(), TrainTeacherFirst()])


def test_a_student_that_is_sharded_is_not_trained_by_itself() -> None:
    strategy = FSDP2Strategy(tensor_parallel_size=1)
    trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, barebones=True)
    trainer.datamodule = Data()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="student_steps=3 trains .* which FSDP2Strategy cannot"):
        TrainMasksFirst(student_steps=3).setup(trainer, made(), "fit")
    TrainMasksFirst(student_steps=3).setup(trainer, made(), "validate")  # which trains nothing


def test_a_fit_without_the_callback_says_so() -> None:
    with pytest.raises(ValueError, match="are not trained: add the callback .*TrainMasksFirst"):
        fit([])


class Distances(Callback):
    """Keeps how far the masked teachers are from the student when the training starts."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        batch = next(iter(runs.loader()))
        with torch.no_grad():
            student = as_source(pl_module.student_logits(batch)).logits()
            answers = pl_module.teacher(batch).parts
        self.random = torch.get_rng_state()
        self.kl = {}
        for name, source in answers.items():
            pair = [(each / 4).log_softmax(-1) for each in (as_source(source).logits(), student)]
            kl = nn.functional.kl_div(pair[0], pair[1], reduction="batchmean", log_target=True)
            self.kl[name] = kl.item()


def test_masks_bring_teachers_near_the_student(caplog: pytest.LogCaptureFixture) -> None:
    callback, distances, module = TrainMasksFirst(steps=60, lr=0.02), Distances(), made()
    student = [p.clone() for p in module.student.parameters()]
    teacher = [p.clone() for p in module.teacher.networks()[0].parameters()]
    torch.manual_seed(7)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        fit([callback, distances], module, max_steps=1, max_epochs=None)
    assert len(callback.losses) == 60
    first, last = (sum(part) for part in (callback.losses[:8], callback.losses[-8:]))  # all data
    assert last < 0.5 * first
    assert "masks of 2 teachers trained for 60 steps; their mean loss went from" in caplog.text
    assert max(distances.kl["one"], distances.kl["two"]) < 0.5 * distances.kl["plain"]
    assert all(map(torch.equal, teacher, module.teacher.networks()[0].parameters()))
    assert not all(map(torch.equal, student, module.student.parameters()))  # by the step alone
    assert not any(p.requires_grad for each in masked(module) for p in each.masks.parameters())
    assert all(each.is_trained for each in masked(module))


def test_what_it_draws_has_no_effect_on_the_fit() -> None:
    states = []
    for callbacks in ([TrainMasksFirst(steps=3, student_steps=2)], []):
        module, random = made(), Distances()
        for each in masked(module):
            each.finish()
        torch.manual_seed(7)
        fit([*callbacks, random], module, max_steps=1, max_epochs=None)
        states.append(random.random)
    assert torch.equal(*states)


def test_the_loss_is_the_kl_from_the_student_to_each_masked_teacher() -> None:
    module, callback = made(), TrainMasksFirst(steps=1, temperature=2.0)
    batch = next(iter(runs.loader()))
    answers = [as_source(each.compute(batch)).logits() for each in masked(module)]
    log_q = (as_source(module.student_logits(batch)).logits() / 2).log_softmax(-1)
    kls = [
        4 * (log_q.exp() * (log_q - (each / 2).log_softmax(-1))).sum(-1).mean() for each in answers
    ]
    fit([callback], module, max_steps=1, max_epochs=None)
    assert callback.losses == [pytest.approx((kls[0] + kls[1]).item() / 2, rel=1e-5)]


def test_a_student_may_learn_first_and_is_as_new_afterwards() -> None:
    class Weights(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.student = [p.clone() for p in pl_module.student.parameters()]

    losses = []
    for steps in (0, 10):
        callback, kept = TrainMasksFirst(steps=1, student_steps=steps, lr=0.05), Weights()
        fit([callback, kept], max_steps=1, max_epochs=None)
        assert all(map(torch.equal, kept.student, made().student.parameters()))
        losses.append(callback.losses[0])
    assert losses[0] != losses[1]


def test_teachers_are_trained_before_their_masks() -> None:
    module = made()
    fit([TrainTeacherFirst(epochs=2, lr=0.05), TrainMasksFirst(steps=2)], module, max_steps=1)
    (net,) = module.teacher.networks()
    assert not torch.equal(next(net.parameters()), next(network(2).parameters()))
    alone = made()
    fit([TrainMasksFirst(steps=2)], alone, max_steps=1)
    assert not all(map(torch.equal, weights(module), weights(alone)))


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    def callbacks() -> list[Callback]:
        return [TrainTeacherFirst(epochs=1), TrainMasksFirst(steps=3, lr=0.05)]

    whole = fit([*callbacks(), runs.saving(tmp_path)], max_epochs=2)
    again = [*callbacks(), runs.saving(tmp_path / "again")]
    resumed = fit(again, max_epochs=2, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    masks: Any = again[1]
    assert len(masks.losses) == 3
    # not because two runs are equal anyway
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=False)
    (key,) = (each for each in saved["callbacks"] if each.startswith("TrainMasksFirst"))
    saved["callbacks"][key]["masks"][0]["0.contract.bias"] += 1
    torch.save(saved, tmp_path / "other.ckpt")
    others = [*callbacks(), runs.saving(tmp_path / "other")]
    other = fit(others, max_epochs=2, ckpt_path=tmp_path / "other.ckpt")
    assert not all(map(torch.equal, weights(whole), weights(other)))


def test_checkpoints_of_other_runs_are_refused(tmp_path: Path) -> None:
    module = made()
    for each in masked(module):
        each.finish()
    fit([runs.saving(tmp_path)], module)  # with masks of its own
    path = tmp_path / "epoch=0.ckpt"
    with pytest.raises(ValueError, match="checkpoint has no masks: it was made without Train"):
        fit([TrainMasksFirst(), runs.saving(tmp_path / "again")], max_epochs=2, ckpt_path=path)
    fit([TrainMasksFirst(steps=1), runs.saving(tmp_path / "both")])
    saved = torch.load(tmp_path / "both" / "epoch=0.ckpt", weights_only=False)
    (key,) = (each for each in saved["callbacks"] if each.startswith("TrainMasksFirst"))
    del saved["callbacks"][key]["masks"][1]
    torch.save(saved, path)
    with pytest.raises(ValueError, match="masks of 1 teachers, but this run has 2 with masks"):
        fit([TrainMasksFirst(), runs.saving(tmp_path / "again")], max_epochs=2, ckpt_path=path)


def test_a_fit_that_goes_on_does_not_train_them_again() -> None:
    callback, module = TrainMasksFirst(steps=2), made()
    trainer = runs.trainer(Path(), callback, max_epochs=1)
    trainer.fit(module, datamodule=Data())
    before = [p.clone() for each in masked(module) for p in each.masks.parameters()]
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, datamodule=Data())
    assert trainer.current_epoch == 2
    after = [p for each in masked(module) for p in each.masks.parameters()]
    assert all(map(torch.equal, before, after))


def test_another_module_of_the_same_trainer_has_its_masks_trained() -> None:
    callback = TrainMasksFirst(steps=2)
    trainer = runs.trainer(Path(), callback, max_epochs=1)
    for epochs in (1, 2):
        module = made()
        trainer.fit_loop.max_epochs = epochs
        trainer.fit(module, datamodule=Data())
        assert all(each.is_trained for each in masked(module))


class PlainTeacher(DistillationModule):
    """A module that gives the teachers, plain networks, what they take."""

    def teacher_logits(self, batch: Any) -> Any:
        return self.teacher(batch[0])


def test_masks_are_trained_on_the_logits_of_the_module() -> None:
    teacher = MaskedTeacher(network(2).net, ["0"])
    fit([TrainMasksFirst(steps=2)], PlainTeacher(network(1), ForwardKL(), teacher))
    assert teacher.is_trained


def test_a_student_that_is_only_run_in_the_training_step_is_refused() -> None:
    class Mixed(DistillationMixin, LightningModule):
        pass

    module = Mixed().distill(ForwardKL(), MaskedTeacher(network(2), ["net.0"]))
    with pytest.raises(ValueError, match="TrainMasksFirst runs .* define student_logits"):
        TrainMasksFirst().setup(runs.trainer(Path()), module, "fit")


def test_a_loss_that_is_no_number_ends_it() -> None:
    module = made()
    with torch.no_grad():
        next(module.student.parameters()).fill_(torch.nan)
    with pytest.raises(
        NonFiniteLossError, match=r"loss of step 0 of TrainMasksFirst is nan; lower"
    ):
        fit([TrainMasksFirst(lr=0.5)], module)
