"""What DistillationModule and OnlineDistillationModule have in common: networks of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from kdlight.modules import StandaloneModule
from kdlight.objectives import ForwardKL, ReverseKL
from tests.support import online_fit, runs, toy

MODULES = {
    "distillation": lambda: toy.module(ForwardKL()),
    "online": lambda: online_fit.module(networks=3),
}


@pytest.mark.parametrize("kind", MODULES)
def test_forward_returns_the_logits_of_the_student(kind: str) -> None:
    module, batch = MODULES[kind](), next(iter(toy.loader(3)))
    logits = module(batch)
    assert isinstance(logits, torch.Tensor)
    assert torch.equal(logits, module.student(batch).logits())


@pytest.mark.parametrize("kind", MODULES)
def test_the_trainer_predicts_the_logits_of_the_student(kind: str, tmp_path: Path) -> None:
    module = MODULES[kind]()
    batches = list(toy.loader(8))
    predicted: Any = toy.trainer(tmp_path).predict(module, toy.loader(8))
    assert predicted is not None
    assert len(predicted) == len(batches)
    for logits, batch in zip(predicted, batches, strict=True):
        assert torch.equal(logits, module.student(batch).logits())


@pytest.mark.parametrize("kind", MODULES)
def test_a_fit_sets_train_mode(kind: str, tmp_path: Path) -> None:
    module, modes = MODULES[kind](), set()

    class Record(Callback):
        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            networks = [network for network, _ in pl_module.learners().values()]
            modes.update(part.training for each in networks for part in each.modules())

    for network, _ in module.learners().values():
        network.eval()
    toy.trainer(tmp_path, callbacks=[Record()]).fit(module, toy.loader(8))
    assert modes == {True}


@pytest.mark.parametrize("kind", MODULES)
def test_a_checkpoint_describes_its_run(kind: str, tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    run.fit(MODULES[kind](), toy.loader(8), toy.loader(8))
    run.save_checkpoint(tmp_path / "run.ckpt")
    described = torch.load(tmp_path / "run.ckpt", weights_only=True)["kdlight"]["run"]
    assert described["student"] == described["teacher"] == "ToyLM"
    assert described["objective"] == ("ForwardKL" if kind == "distillation" else "Weighted")
    assert described["steps"] == 4
    assert "val/forward_kl" in described["metrics"]


def test_a_checkpoint_of_another_objective_causes_a_warning(tmp_path: Path) -> None:
    run = runs.trainer(tmp_path)
    run.fit(runs.module(ForwardKL()), runs.loader())
    run.save_checkpoint(tmp_path / "run.ckpt")
    with pytest.warns(UserWarning, match="trained with ForwardKL, and this run has ReverseKL"):
        runs.trainer(tmp_path, max_epochs=3).fit(
            runs.module(ReverseKL()), runs.loader(), ckpt_path=str(tmp_path / "run.ckpt")
        )


def test_parameter_groups_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match="does not define parameter_groups"):
        StandaloneModule().parameter_groups()
