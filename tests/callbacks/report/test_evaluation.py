"""Student and teacher evaluated on the validation data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from kdlight import DistillationModule
from kdlight.callbacks.report.evaluation import Evaluation, evaluate
from kdlight.objectives import CrossEntropy
from tests.support import toy


class Evaluate(Callback):
    result: Evaluation

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.result = evaluate(trainer, pl_module)


def run(folder: Path, module: DistillationModule) -> tuple[Evaluation, dict[str, float]]:
    callback = Evaluate()
    trainer = toy.trainer(folder, callbacks=[callback])
    trainer.fit(module, toy.loader(8), toy.loader(8, seed=1))
    return callback.result, {name: v.item() for name, v in trainer.callback_metrics.items()}


def test_the_metrics_are_those_of_a_validation(tmp_path: Path) -> None:
    module = toy.module()
    result, logged = run(tmp_path, module)
    for name in ("forward_kl", "accuracy", "perplexity"):
        assert result.student[name] == pytest.approx(logged[f"val/{name}"], rel=1e-6)
    assert result.teacher["accuracy"] == pytest.approx(logged["val/teacher_accuracy"], rel=1e-6)
    assert result.unit == "token"
    sizes = [sum(p.numel() for p in toy.ToyLM(dim).parameters()) for dim in (6, 12)]
    assert [result.student["parameters"], result.teacher["parameters"]] == sizes
    assert result.student["per_second"] > 0
    assert set(result.reliability) == {"student", "teacher"}


def test_without_a_teacher_there_are_no_metrics_of_one(tmp_path: Path) -> None:
    result, _ = run(tmp_path, DistillationModule(toy.ToyLM(), CrossEntropy()))
    assert result.teacher == {}
    assert "accuracy" in result.student
