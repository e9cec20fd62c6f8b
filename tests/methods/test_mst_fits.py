"""Fits of RoutedKD with the Trainer: features of the gate, logs, schedules, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from kdlight import DistillationMixin, DistillationModule, SingleInput, TeacherEnsemble
from kdlight.callbacks import HyperparameterScheduler
from kdlight.modules.captured_features import capture_features
from kdlight.objectives import CrossEntropy, HiddenStates, RoutedKD, Weighted
from kdlight.objectives.features.feature_objective import feature_paths
from kdlight.schedules import Piecewise
from kdlight.teachers import SelectiveTeacher
from tests.support import runs, toy


def network(seed: int) -> SingleInput:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(runs.WIDTH, 8), nn.Tanh(), nn.Linear(8, runs.CLASSES)
        return SingleInput(nn.Sequential(*layers))


def ensemble() -> TeacherEnsemble:
    return TeacherEnsemble({"a": network(2), "b": network(3)})


def objective(**options: Any) -> Weighted:
    return Weighted({"kd": RoutedKD(["a", "b"], **options), "ce": CrossEntropy()})


def made(**options: Any) -> DistillationModule:
    teacher = options.pop("teacher", None) or ensemble()
    torch.manual_seed(0)
    return DistillationModule(
        network(1),
        objective(**options),
        teacher,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
    )


@pytest.mark.parametrize("source", ["student", "net.0:input", "net.1"])
def test_a_fit_trains_the_gate_and_logs_its_shares(tmp_path: Path, source: str) -> None:
    module = made(gate_input=source, **({"gate_size": 8} if source == "net.1" else {}))
    gate: Any = module.objective.terms["kd"].gate  # type: ignore[index, union-attr]
    before = [p.clone() for p in gate.parameters()]
    trainer = runs.trainer(tmp_path, max_epochs=1)
    trainer.fit(module, runs.loader(range(2, 4)), runs.loader())
    assert not any(map(torch.equal, before, gate.parameters()))
    logged = trainer.callback_metrics
    assert logged["train/kd/share/a"] + logged["train/kd/share/b"] == pytest.approx(1)
    for name in ("kd", "kd/balance", "kd/distillation", "kd/kl/a", "kd/kl/b"):
        assert logged[f"train/{name}"] > 0
    assert logged["train/kd"] == pytest.approx(
        (logged["train/kd/distillation"] + logged["train/kd/balance"]).item(), rel=1e-5
    )
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    saved = torch.load(tmp_path / "run.ckpt", weights_only=False)["state_dict"]
    assert "objective.terms.kd.gate.network.output.bias" in saved


class Own(LightningModule):
    """A module that does not know kdlight."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch).logits(), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Mixed(DistillationMixin, Own):
    def student_logits(self, batch: Any) -> Any:
        return self.net(batch)


def test_the_mixin_captures_the_input_of_the_gate(tmp_path: Path) -> None:
    routed = RoutedKD(["a", "b"], gate_input="net.net.0:input")
    module = Mixed().distill(routed, ensemble())
    trainer = runs.trainer(tmp_path, max_steps=2, max_epochs=None)
    trainer.fit(module, runs.loader())
    assert trainer.callback_metrics["distillation/share/a"] > 0
    assert routed.gate.network is not None


def test_the_weights_follow_a_schedule_of_epochs(tmp_path: Path) -> None:
    schedules = [
        HyperparameterScheduler(f"terms.kd.{name}", Piecewise([1.0, factor], [1]), "epoch")
        for name, factor in (("balance_weight", 0.9), ("distillation_weight", 0.5))
    ]
    watch = runs.Watch(
        lambda each: (each.terms["kd"].balance_weight, each.terms["kd"].distillation_weight)
    )
    module = made(gate_input="net.0:input")
    runs.trainer(tmp_path, *schedules, watch).fit(module, runs.loader())
    assert watch.used == [(1.0, 1.0)] * runs.BATCHES + [(0.9, 0.5)] * runs.BATCHES


def test_paths_are_declared_and_only_compared_ones_need_a_live_teacher() -> None:
    routed = RoutedKD(["a", "b"], gate_input="net.0:input")
    terms = {"kd": routed, "hidden": HiddenStates({"net.1": "net.1"})}
    assert [list(each) for each in feature_paths(Weighted(terms))] == [
        ["net.0:input", "net.1"],
        ["net.1"],
    ]
    assert [list(each) for each in feature_paths(routed)] == [["net.0:input"], []]
    student, batch = network(1), next(iter(runs.loader()))
    with capture_features(routed, student, ensemble()) as features:
        student(batch)
    assert features is not None
    fields = features.fields(batch, student)
    assert torch.equal(fields["student_features"]["net.0:input"], batch[0])
    assert fields["teacher_features"] == {}
    with (
        pytest.raises(ValueError, match=r"TeacherEnsemble\) consists of several"),
        capture_features(Weighted(terms), student, ensemble()),
    ):
        pass


def test_what_does_not_fit_is_refused_before_a_step(tmp_path: Path) -> None:
    def fit(module: DistillationModule) -> None:
        before = [p.clone() for p in module.parameters()]
        try:
            runs.trainer(tmp_path).fit(module, runs.loader())
        finally:
            assert all(map(torch.equal, before, module.parameters()))

    with pytest.raises(ValueError, match="no module of SingleInput is called 'nett.0'; similar"):
        made(gate_input="nett.0:input")
    three = TeacherEnsemble({name: network(2) for name in "abc"})
    with pytest.raises(ValueError, match=r"teachers must be .* \['a', 'b', 'c'\], got"):
        fit(made(teacher=three))
    with pytest.raises(ValueError, match="several teachers apart"):
        fit(made(teacher=network(2)))
    with pytest.raises(ValueError, match="several teachers apart"):
        fit(made(teacher=SelectiveTeacher(ensemble(), ask="entropy")))
    with pytest.raises(ValueError, match="several teachers apart, .* has no route_by"):
        fit(made(teacher=TeacherEnsemble({"a": network(2), "b": network(3)}, route_by="who")))
    with pytest.raises(ValueError, match="logits of a language model of 11 tokens"):
        DistillationModule(toy.ToyLM(), RoutedKD(["a", "b"]), toy.ToyLM())
