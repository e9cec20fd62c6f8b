"""A module is built again from the hyper-parameters of a checkpoint, and runs no code of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy
from tests.support.exports import checkpoint, export, refused, same


def test_a_module_made_in_python_does_not_say_how_to_build_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = toy.trainer(tmp_path, max_steps=1)
    run.fit(toy.module(), toy.loader(8))
    run.save_checkpoint(tmp_path / "plain.ckpt")
    error = refused(capsys, tmp_path / "plain.ckpt", tmp_path / "out")
    assert "created in Python and not from a config" in error
    assert "kdlight.export.export_student(module.student, directory)" in error


CODE = """
from pathlib import Path
from torch import nn
Path("ran").touch()
class Net(nn.Module): ...
"""


def forged(run: Path, folder: Path, **hyper_parameters: Any) -> Path:
    """Return the checkpoint of a run with other hyper-parameters, which are plain data."""
    content = torch.load(checkpoint(run), weights_only=True)
    content["hyper_parameters"] |= hyper_parameters
    torch.save(content, folder / "forged.ckpt")
    return folder / "forged.ckpt"


FORGED: dict[str, dict[str, Any]] = {
    "a class of the working directory": {"student": {"class_path": "evil.Net"}},
    "another module": {"_class_path": "evil.Net"},
    "a config file": {"student": "evil.yaml"},
    "code of a folder": {
        "student": {
            "class_path": "kdlight.CausalLM",
            "init_args": {"source": "./model", "options": {"trust_remote_code": True}},
        }
    },
}


@pytest.mark.parametrize("hyper_parameters", FORGED.values(), ids=FORGED)
def test_code_that_a_checkpoint_names_is_not_run(
    hyper_parameters: dict[str, Any],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "model").mkdir()
    for name in ("evil.py", "model/modeling_evil.py"):
        (tmp_path / name).write_text(CODE)
    (tmp_path / "evil.yaml").write_text("class_path: evil.Net")
    names = {"AutoConfig": "modeling_evil.Net", "AutoModelForCausalLM": "modeling_evil.Net"}
    config = {"model_type": "evil", "auto_map": names}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    error = refused(capsys, forged(run, tmp_path, **hyper_parameters), tmp_path / "out")
    assert "the checkpoint would run code that it names: " in error
    assert "add --trust" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_an_optimizer_is_neither_needed_nor_imported(run: Path, tmp_path: Path) -> None:
    adam = {"class_path": "somewhere.Adam"}
    export(forged(run, tmp_path, optimizer=adam), tmp_path / "out")
    assert same(tmp_path / "out", run / "student")
