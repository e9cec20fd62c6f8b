"""Temperature scaling of the networks of a run, and the reliability diagrams of its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdlight import DistillationModule, SingleInput
from kdlight.callbacks import DistillationReport, TemperatureScaling
from kdlight.metrics import ExpectedCalibrationError, predictions
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.support import online_fit, toy

CLASSES = 5


class Scaled(nn.Module):
    """Logits times a factor, which makes them over- or underconfident."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.fixture
def data(generator: torch.Generator) -> TensorDataset:
    """Calibrated logits: their labels are drawn from their softmax."""
    logits = 2 * torch.randn(4000, CLASSES, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)
    labels[:50] = -100
    return TensorDataset(logits, labels)


def run(
    folder: Path, data: TensorDataset, *callbacks: Any, student: float = 3.0, teacher: float = 0.5
) -> tuple[Any, DistillationModule]:
    """A fit of one step that changes nothing, and its validation."""
    module = DistillationModule(
        SingleInput(Scaled(student)),
        ForwardKL(),
        SingleInput(Scaled(teacher)),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0),
    )
    trainer = toy.trainer(
        folder,
        limit_train_batches=1,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
    )
    trainer.fit(module, DataLoader(data, 64), DataLoader(data, 333))
    return trainer, module


@pytest.mark.parametrize("criterion", ["nll", "ece"])
@pytest.mark.parametrize(("network", "factor"), [("student", 3.0), ("teacher", 0.5)])
def test_the_temperature_is_the_factor_of_the_logits(
    network: str, factor: float, criterion: Any, data: TensorDataset, tmp_path: Path
) -> None:
    callback = TemperatureScaling(network, criterion)
    trainer, _ = run(tmp_path, data, callback)
    result = callback.result
    assert result is not None
    assert result["temperature"] == pytest.approx(factor, rel=0.08)
    for name in ("nll", "ece"):
        assert result[name]["after"] < result[name]["before"]
    written = tmp_path / f"temperature_{network}_{criterion}.json"
    assert json.loads(written.read_text()) == result
    logged = trainer.callback_metrics[f"val/{network}_temperature_{criterion}"]
    assert logged.item() == pytest.approx(result["temperature"])


def test_the_temperature_is_the_minimum(data: TensorDataset, tmp_path: Path) -> None:
    nll, ece = TemperatureScaling(), TemperatureScaling(criterion="ece")
    run(tmp_path, data, nll, ece)
    logits, labels = data.tensors[0] * 3, data.tensors[1]
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = nn.functional.cross_entropy(logits.double() / log_t.exp(), labels)
        value.backward()
        return value

    solver.step(loss)
    assert nll.result is not None
    assert ece.result is not None
    assert nll.result["temperature"] == pytest.approx(log_t.exp().item(), rel=0.012)

    def error(temperature: float) -> float:
        metric = ExpectedCalibrationError()
        metric.update(*predictions(logits / temperature, labels))
        return metric.compute().item()

    found = ece.result["temperature"]
    assert ece.result["ece"]["after"] == pytest.approx(error(found), rel=1e-4)
    assert ece.result["ece"]["before"] == pytest.approx(error(1.0), rel=1e-4)
    grid = torch.logspace(-1, 1, 60, base=10.0).tolist()
    assert error(found) <= min(map(error, grid)) + 1e-3


def test_the_checkpoint_of_a_validation_holds_its_result(
    data: TensorDataset, tmp_path: Path
) -> None:
    callbacks = TemperatureScaling(), TemperatureScaling("teacher")
    run(tmp_path, data, *callbacks, ModelCheckpoint(tmp_path, filename="last"))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    for callback in callbacks:
        assert callback.result is not None
        assert saved[callback.state_key]["result"] == callback.result
        restored = TemperatureScaling(callback.network)
        restored.load_state_dict(saved[callback.state_key])
        assert restored.result == callback.result


def test_validate_finds_the_temperature_of_any_network_of_an_online_module(tmp_path: Path) -> None:
    callback = TemperatureScaling("third")
    trainer = toy.trainer(tmp_path, callbacks=[callback])
    values = trainer.validate(online_fit.module(networks=3), toy.RaggedModule(8), verbose=False)[0]
    assert callback.result is not None
    assert callback.result["nll"]["before"] == pytest.approx(values["val/third/nll"], rel=1e-5)
    assert callback.result["ece"]["before"] == pytest.approx(values["val/third/ece"], rel=1e-4)
    assert values["val/third_temperature_nll"] > 1  # an untrained network is overconfident


def test_it_does_not_change_the_training(tmp_path: Path) -> None:
    def weights(*callbacks: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        module = toy.module()
        toy.trainer(tmp_path, max_epochs=2, callbacks=list(callbacks)).fit(
            module, toy.loader(8), toy.loader(8, seed=1)
        )
        return module.student.state_dict()

    without, scaled = weights(), weights(TemperatureScaling())
    assert all(torch.equal(without[name], scaled[name]) for name in without)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "brier"}, "criterion must be one of .*, got 'brier'"),
        ({"bins": 0}, "bins must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemperatureScaling(**options)


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    for network, module in (
        ("third", toy.module()),
        ("teacher", DistillationModule(toy.ToyLM(), CrossEntropy())),
        ("fourth", online_fit.module(networks=3)),
    ):
        trainer = toy.trainer(tmp_path, callbacks=[TemperatureScaling(network)])
        with pytest.raises(
            ValueError, match=f"network must be one of .* in this run, got '{network}'"
        ):
            trainer.fit(module, toy.loader(8), toy.loader(8))


def test_the_report_draws_reliability_diagrams(data: TensorDataset, tmp_path: Path) -> None:
    report = DistillationReport()
    run(tmp_path, data, report)
    assert report.after is not None
    curves = report.after.reliability
    assert set(curves) == {"student", "teacher"}
    for name, error in (("student", report.after.student), ("teacher", report.after.teacher)):
        gaps = zip(*(curves[name][key] for key in ("share", "accuracy", "confidence")), strict=True)
        assert sum(s * abs(a - c) for s, a, c in gaps) == pytest.approx(error["ece"], rel=1e-4)
    below = zip(curves["student"]["accuracy"], curves["student"]["confidence"], strict=True)
    assert (
        sum(a < c for a, c in below) > len(curves["student"]["share"]) / 2
    )  # the student is overconfident
    assert (tmp_path / "reliability.png").read_bytes()[:4] == b"\x89PNG"


def test_without_labels_there_is_no_diagram(tmp_path: Path) -> None:
    class Unlabelled(DistillationModule):
        def labels(self, batch: Any) -> None:
            return None

    module = Unlabelled(SingleInput(nn.Linear(4, 3)), ForwardKL(), SingleInput(nn.Linear(4, 3)))
    loader = DataLoader(torch.randn(16, 4), batch_size=4)  # type: ignore[arg-type]
    toy.trainer(tmp_path, callbacks=[DistillationReport()]).fit(module, loader, loader)
    assert (tmp_path / "report.png").exists()
    assert not (tmp_path / "reliability.png").exists()
    with pytest.raises(ValueError, match="TemperatureScaling needs labels"):
        toy.trainer(tmp_path, callbacks=[TemperatureScaling()]).validate(module, loader)
