"""A student that cannot be saved, or would replace a model, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch import nn

from kdlight import DistillationModule, LoRACausalLM, SingleInput
from kdlight.callbacks import ExportStudent
from kdlight.export import export_student
from kdlight.objectives import CrossEntropy
from tests.support import toy


def fit(module: DistillationModule, folder: Path, **options: Any) -> Trainer:
    run = toy.trainer(folder, max_steps=1, **options)
    run.fit(module, toy.loader(8))
    return run


def test_a_student_that_cannot_be_saved_is_refused_before_the_fit(tmp_path: Path) -> None:
    module = DistillationModule(student=SingleInput(nn.Linear(4, 3)), objective=CrossEntropy())
    with pytest.raises(ValueError, match="save_pretrained.*which SingleInput does not have"):
        fit(module, tmp_path, callbacks=[ExportStudent()])


def test_a_directory_that_holds_a_model_is_refused_before_the_fit(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").touch()
    module = toy.module(network="llama")
    with pytest.raises(FileExistsError, match="already holds a model"):
        fit(module, tmp_path, callbacks=[ExportStudent()])
    fit(module, tmp_path, callbacks=[ExportStudent(overwrite=True)])
    assert "LlamaForCausalLM" in (tmp_path / "student" / "config.json").read_text()


def test_adapters_that_are_not_there_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="adapter_only=True, but CausalLM has no adapters"):
        export_student(toy.llama(), tmp_path, adapter_only=True)


@pytest.mark.parametrize("first", [True, False])
def test_a_model_and_adapters_do_not_mix(first: bool, tmp_path: Path) -> None:
    student = LoRACausalLM().build(toy.llama())
    export_student(student, tmp_path, adapter_only=first)
    with pytest.raises(FileExistsError, match="set overwrite=True"):
        export_student(student, tmp_path, adapter_only=first)
    export_student(student, tmp_path, adapter_only=first, overwrite=True)
    with pytest.raises(FileExistsError, match="already holds .* and cannot hold .* as well"):
        export_student(student, tmp_path, adapter_only=not first, overwrite=True)
