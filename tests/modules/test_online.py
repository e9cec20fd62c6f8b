"""Networks that are trained together: one optimizer equals one for each network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdlight import Learner, OnlineDistillationModule, SingleInput
from kdlight.callbacks import AdaptiveTAID, DistillationReport, HyperparameterScheduler
from kdlight.objectives import BDKD, TAID, CrossEntropy, LossInputs, Weighted
from kdlight.reduce import Chunking
from kdlight.schedules import Linear
from tests.support import toy
from tests.support.online_fit import (
    ADAM,
    fit,
    full_weights,
    largest_difference,
    make_objective,
    module,
)

NAMES = ("student", "teacher", "third")


def by_hand(
    networks: int = 2, *, clips: dict[str, float] | None = None, updates: str = "simultaneous"
) -> dict[str, Tensor]:
    """Train the same in a loop of PyTorch, with an optimizer for each network."""
    trained, data = module(networks=networks), toy.Ragged(24)
    names = NAMES[:networks]
    parts = {name: nn.ModuleList(trained.learners()[name]) for name in names}
    optimizers = {
        name: torch.optim.AdamW(
            [
                {"params": [*part[0].parameters()], **({"lr": 0.05} if name == "teacher" else {})},
                *([{"params": own}] if (own := [*part[1].parameters()]) else []),
            ],
            **ADAM,
        )
        for name, part in parts.items()
    }
    for number, batch in enumerate(
        toy.pad([data[i] for i in r]) for r in (range(8), range(8, 16), range(16, 24))
    ):
        logits = {name: getattr(trained, name)(batch).logits() for name in names}
        labels = trained.labels(batch)
        assert labels is not None
        for name in names:
            optimizers[name].zero_grad()
            others = [logits[other].detach() for other in names if other != name]
            losses = [
                parts[name][1](LossInputs(logits[name], other, labels, labels != -100)).mean()
                for other in others
            ]
            torch.stack(losses).mean().backward()
            if clips:
                nn.utils.clip_grad_norm_(parts[name].parameters(), clips[name])
        for i, name in enumerate(names):
            if updates == "simultaneous" or number % networks == i:
                optimizers[name].step()
    return full_weights(trained)


@pytest.mark.parametrize("networks", [2, 3])
def test_one_optimizer_equals_one_for_each_network(networks: int) -> None:
    assert largest_difference(fit({"networks": networks})["weights"], by_hand(networks)) < 1e-9


def test_each_network_is_clipped_separately() -> None:
    clips = {"student": 0.02, "teacher": 0.05}
    expected = by_hand(clips=clips)
    assert largest_difference(fit({"clips": clips})["weights"], expected) < 1e-6
    same = fit({"clip": 0.05})["weights"]
    assert largest_difference(same, by_hand(clips={"student": 0.05, "teacher": 0.05})) < 1e-6
    assert largest_difference(same, expected) > 1e-4
    assert largest_difference(same, by_hand()) > 1e-4


def test_alternating_updates() -> None:
    turns = fit({"updates": "alternating"})["weights"]
    assert largest_difference(turns, by_hand(updates="alternating")) < 1e-9
    assert largest_difference(turns, by_hand()) > 1e-3


@pytest.mark.parametrize("updates", ["simultaneous", "alternating"])
def test_micro_batches_change_nothing(updates: str) -> None:
    at_once = fit({"updates": updates, "clip": 0.05})
    accumulated = fit({"updates": updates, "clip": 0.05, "batch_size": 2, "accumulate": 4})
    assert largest_difference(at_once["weights"], accumulated["weights"]) < 1e-9
    for key in ("train/loss", "train/ce", "train/teacher/loss", "train/teacher/kd"):
        assert accumulated["logged"][key] == pytest.approx(at_once["logged"][key])


def test_chunks_change_nothing() -> None:
    chunked = fit({"networks": 3, "chunked": Chunking(tokens=10, block=3)})
    assert largest_difference(fit({"networks": 3})["weights"], chunked["weights"]) < 1e-9


def test_a_loss_has_gradients_in_its_own_network_only() -> None:
    online = module()
    batch = toy.pad([toy.Ragged()[i] for i in range(3)])
    for name, (loss, _) in online.learner_losses(batch).items():
        own = {id(p) for p in online.trainable_parameters(name)}
        online.zero_grad()
        loss.total.backward()
        for parameter in online.parameters():
            assert (parameter.grad is not None) == (id(parameter) in own)


def test_metrics_of_all_networks_are_logged(tmp_path: Path) -> None:
    online = module(networks=3)
    run = toy.trainer(tmp_path)
    data = toy.RaggedModule(8)
    validated = run.validate(online, data, verbose=False)[0]
    for name, prefix in (("teacher", "val/teacher_"), ("third", None)):
        own = {k: v for k, v in validated.items() if k.startswith(f"val/{name}/")}
        assert {"loss", "accuracy", "ece", "brier", "nll"} <= {k.split("/")[-1] for k in own}
        if prefix:  # logged with the student's metrics, too
            for key in ("accuracy", "ece", "nll"):
                assert own[f"val/{name}/{key}"] == pytest.approx(validated[prefix + key])
    assert not any("teacher_" in key.split("/")[-1] for key in validated if key.count("/") == 2)
    assert run.test(online, data, verbose=False)[0]["test/third/accuracy"] >= 0


def test_all_networks_are_in_the_checkpoint_and_none_among_the_hyper_parameters(
    tmp_path: Path,
) -> None:
    run = toy.trainer(tmp_path)
    online = module(networks=3)
    run.fit(online, toy.RaggedModule(8, count=16))
    run.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert {key.split(".")[0] for key in saved["state_dict"]} == {*NAMES, "peer_objectives"}
    assert not set(saved["hyper_parameters"]) & {"learners", "optimizer"}
    assert len(saved["optimizer_states"]) == 1
    assert set(saved["gradient_normalizers"]) == {"student", "teacher", "third"}
    again = module(networks=3)
    toy.trainer(tmp_path).validate(
        again, toy.RaggedModule(8), ckpt_path=str(tmp_path / "run.ckpt"), verbose=False
    )
    assert largest_difference(full_weights(again), full_weights(online)) == 0


def test_callbacks_find_the_student_and_its_objective(tmp_path: Path) -> None:
    student = Weighted({"ce": CrossEntropy(), "taid": TAID()})
    online = OnlineDistillationModule(
        {
            "student": Learner(toy.ToyLM(seed=1), student),
            "teacher": Learner(toy.ToyLM(12, seed=2), make_objective("teacher")),
        }
    )
    report = DistillationReport()
    callbacks = [
        AdaptiveTAID(alpha=0.5),
        HyperparameterScheduler("weights.ce", Linear(1.0, 0.0)),
        report,
    ]
    run = toy.trainer(tmp_path, callbacks=callbacks)
    run.fit(online, toy.RaggedModule(8))
    assert student.weights["ce"] < 0.5
    taid = student.terms["taid"]
    assert isinstance(taid, TAID)
    assert taid.t > 0.5
    assert report.after is not None
    assert report.after.teacher["parameters"] == sum(p.numel() for p in online.teacher.parameters())  # type: ignore[union-attr]


def test_an_objective_without_a_teacher_is_evaluated_once() -> None:
    online = module()
    online.peer_objectives["teacher"] = CrossEntropy()
    batch = toy.pad([toy.Ragged()[i] for i in range(3)])
    assert set(online.learner_losses(batch)["teacher"][0].parts) == set()


def test_metrics_use_the_temperature_of_bdkd() -> None:
    learners = {name: Learner(SingleInput(nn.Linear(4, 3)), CrossEntropy()) for name in NAMES[:2]}
    learners["student"].objective = BDKD(temperature=3.0)
    assert OnlineDistillationModule(learners).metrics.temperature == 3.0
