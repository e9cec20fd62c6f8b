"""The teacher of a config is served: as in a fit, without its student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import DistillationModule, FrozenTeacher
from kdlight.cli import main
from kdlight.cli.serve_cli import ServeCLI
from kdlight.serve import TeacherServer
from tests.support.config_runs import DIGITS, FOLDER, tiny
from tests.support.served import network

__all__ = ["tiny"]  # the fixture
CONFIG = str(FOLDER / "forward_kl.yaml")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


def options(tiny: dict[str, str], *more: str, config: str = CONFIG) -> list[str]:
    return [
        "--config",
        config,
        f"--model.init_args.teacher.init_args.source={tiny['source']}",
        f"--data.init_args.files={tiny['text']}",
        "--trainer.accelerator=cpu",
        "--port=0",
        *more,
    ]


def made(args: list[str]) -> ServeCLI:
    return ServeCLI(args, run=False, save_config_callback=None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[TeacherServer]:
    """Servers that were told to run; each has loaded its teacher and ended."""
    servers: list[TeacherServer] = []

    def run(self: TeacherServer, on_ready: Any) -> None:
        with self:
            on_ready(self.url)
            servers.append(self)

    monkeypatch.setattr(TeacherServer, "run", run)
    return servers


def test_the_teacher_is_made_without_the_student(
    tiny: dict[str, str],
    served: list[TeacherServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def build(*_: object) -> None:
        raise AssertionError("a student was built")

    monkeypatch.setattr("kdlight.models.PrunedCausalLM.build", build)
    made(options(tiny, "--k=7", "--states=float32")).serve()
    (server,) = served
    info = server.worker.teacher.info
    assert info["model"] == f"CausalLM(source={tiny['source']!r})"
    assert (info["vocab_size"], info["states"], info["dtype"]) == (102, "float32", "float32")
    assert info["tokenizer"] is not None
    assert capsys.readouterr().out == f"kdlight serves {info['model']} at {server.url}\n"


def test_an_ensemble_and_a_teacher_with_options_are_served(
    tiny: dict[str, str], served: list[TeacherServer]
) -> None:
    lm = {"class_path": "kdlight.CausalLM", "init_args": {"source": tiny["source"]}}
    half = {"class_path": "kdlight.FrozenTeacher", "init_args": {"model": lm, "dtype": "bfloat16"}}
    ensemble = {
        "class_path": "kdlight.TeacherEnsemble",
        "init_args": {"teachers": {"whole": lm, "half": half}},
    }
    more = [
        f"--model.init_args.teacher={json.dumps(ensemble)}",
        f"--data.init_args.tokenizer={tiny['source']}",
    ]
    kept = [each for each in options(tiny, *more) if "teacher.init_args.source" not in each]
    made(kept).serve()
    assert served[0].worker.teacher.info["dtype"] == "float32, bfloat16"


class OwnTeacher(DistillationModule):
    """A module that makes its teacher by itself."""

    def __init__(self) -> None:
        from kdlight.objectives import ForwardKL

        super().__init__(torch.nn.Linear(2, 3), ForwardKL(), FrozenTeacher(network()))


def test_a_module_that_makes_its_teacher_is_made(
    tiny: dict[str, str], served: list[TeacherServer]
) -> None:
    args = [
        f"--model={OwnTeacher.__module__}.{OwnTeacher.__name__}",
        f"--data={json.dumps(data(tiny))}",
        "--seed_everything=0",
        "--trainer.accelerator=cpu",
        "--port=0",
    ]
    made(args).serve()
    assert served[0].worker.teacher.info["model"] == "LlamaForCausalLM"


def data(tiny: dict[str, str]) -> dict[str, Any]:
    arguments = {"tokenizer": tiny["source"], "files": tiny["text"]}
    return {"class_path": "kdlight.data.TextDataModule", "init_args": arguments}


def test_the_precision_of_the_fit_is_that_of_the_server(
    tiny: dict[str, str], served: list[TeacherServer]
) -> None:
    made(options(tiny, "--trainer.precision=bf16-mixed")).serve()
    with served[0].worker.teacher.precision():
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--host=0.0.0.0"], "host is '0.0.0.0', which other machines reach"),
        (["--token_variable=NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
        (["--k=0"], "k must be at least 1"),
        (["--queue=0"], "queue must be at least 1"),
        (["--port=70000"], "port must be at most 65535"),
        (["--states=float8"], "float8"),
        (["--model.init_args.teacher=null"], "there is no teacher to serve"),
    ],
)
def test_an_error_is_one_line(
    tiny: dict[str, str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*more, f"--data.init_args.tokenizer={tiny['source']}"]
    with pytest.raises(SystemExit) as stop:
        main(["serve", *options(tiny, *more)])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors[errors.index("error:") :]


def test_a_teacher_of_images_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["serve", "--config", DIGITS, "--trainer.accelerator=cpu", "--port=0"]
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "cannot be served, as it does not answer on token ids" in capsys.readouterr().err
