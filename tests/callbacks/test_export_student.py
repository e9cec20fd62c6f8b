"""The student exported by the callback; tests/export tests what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from transformers import AutoModelForCausalLM

from kdlight import DistillationMixin, FrozenTeacher
from kdlight.callbacks import ExportStudent
from kdlight.objectives import ForwardKL
from tests.support import toy


def test_the_trained_student_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = toy.module(network="llama")
    export = ExportStudent(str(tmp_path / "exported"))
    toy.trainer(tmp_path, callbacks=[export], max_steps=2).fit(module, toy.loader(8))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").state_dict()
    trained = module.student.model.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(loaded[name], trained[name]) for name in loaded)
    assert f"Student saved: {tmp_path / 'exported'}" in capsys.readouterr().out


def test_by_default_it_is_saved_in_the_folder_of_the_run(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path, callbacks=[ExportStudent()], max_steps=1)
    trainer.fit(toy.module(network="llama"), toy.loader(8))
    assert (tmp_path / "student" / "config.json").exists()
    with pytest.raises(FileExistsError):  # before a second fit starts
        trainer.fit(toy.module(network="llama"), toy.loader(8))


class Mixed(DistillationMixin, toy.OwnModule):
    """A module of someone else over a model of transformers, which has no kdlight.CausalLM."""

    def student_logits(self, batch: Any) -> Any:
        return self.student(batch["input_ids"]).logits

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx)


def test_the_network_of_a_mixin_is_saved(tmp_path: Path) -> None:
    student: Any = toy.llama(seed=1)
    module = Mixed(student.model).distill(
        ForwardKL(), FrozenTeacher(toy.llama(seed=2)), task_weight=0.0, labels="causal"
    )
    run = toy.trainer(tmp_path, callbacks=[ExportStudent()], max_steps=2)
    run.fit(module, toy.loader(8))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "student").state_dict()
    assert all(
        torch.equal(loaded[name], value) for name, value in student.model.state_dict().items()
    )
    assert "| objective | `ForwardKL` |" in (tmp_path / "student" / "README.md").read_text()


def test_a_module_that_is_not_of_kdlight_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ExportStudent needs a kdlight.Dist.* got OwnModule"):
        toy.trainer(tmp_path, callbacks=[ExportStudent()]).fit(
            toy.OwnModule(toy.ToyLM()), toy.loader(8)
        )


def test_a_directory_that_cannot_be_written_to_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    export = ExportStudent(str(tmp_path / "file" / "student"))
    run = toy.trainer(tmp_path, callbacks=[export], max_steps=1)
    with pytest.raises(OSError, match="cannot write to '.*file/student'.*name another folder"):
        run.fit(toy.module(network="llama"), toy.loader(8))
    assert run.global_step == 0


class Replaces(Callback):
    """Puts a file where the folder should be, when training is over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.path.touch()


def test_what_cannot_be_written_at_the_end_is_saved_elsewhere(tmp_path: Path) -> None:
    wanted, module = tmp_path / "a" / "student", toy.module(network="llama")
    wanted.parent.mkdir()
    callbacks = [Replaces(wanted), ExportStudent(str(wanted))]
    run = toy.trainer(tmp_path / "run", callbacks=callbacks, max_steps=1)
    with pytest.warns(UserWarning, match="a/student' cannot be written to .* is saved in") as told:
        run.fit(module, toy.loader(8))
    (text,) = [str(each.message) for each in told if "is saved in" in str(each.message)]
    (folder,) = (tmp_path / "run").glob("student-*")
    assert repr(str(folder)) in text
    loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    trained = module.student.model.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(loaded[name], trained[name]) for name in loaded)
