"""The student exported by the callback; tests/export tests what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from kdlight.callbacks import ExportStudent
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


def test_a_module_without_networks_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ExportStudent needs a module derived from .* got Mixed"):
        toy.trainer(tmp_path, callbacks=[ExportStudent()]).fit(toy.mixed(), toy.loader(8))
