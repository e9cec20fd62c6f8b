"""``kdlight doctor`` reports why a run cannot work, and neither trains nor writes files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from kdlight import SingleInput
from kdlight.cli import main
from kdlight.models.digits import TinyNet
from tests.support.config_runs import DIGITS, tiny
from tests.support.doctor_runs import quickstart

FSDP2 = "--trainer.strategy=kdlight.distributed.FSDP2Strategy"
NET = "--model.student.init_args.net"


__all__ = ["tiny"]  # the fixture


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight", "doctor", "--config", DIGITS])


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    code = 0
    try:
        main(["doctor", "--config", DIGITS, *args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, " ".join(capsys.readouterr().out.split())


class InEvalMode(SingleInput):
    """A network in evaluation mode, as Hugging Face creates them."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__(nn.Sequential(TinyNet(), nn.Dropout(dropout)))
        self.net.eval()


class Frozen(SingleInput):
    """A network that was used as a teacher before."""

    def __init__(self) -> None:
        super().__init__(TinyNet())
        self.requires_grad_(False)


def test_a_run_that_works_has_no_findings_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, printed = run(capsys, "--trainer.max_epochs=3", "--model.optimizer.lr", "0.1")
    assert code == 0, printed
    assert "this run can start" in printed
    assert "error" not in printed
    assert "warning" not in printed
    for name in (
        "weights, trained 2.4 KiB",
        "optimizer state 4.8 KiB",
        "64 positions",
        "10 logits",
    ):
        assert name in printed
    assert list(tmp_path.iterdir()) == []


CANNOT_WORK = {
    "no teacher": (["--model.teacher=null"], "ForwardKL needs a teacher, but teacher is None"),
    "other classes": (
        ["--model.teacher.init_args.net.init_args.classes=12"],
        "teacher and student vocabularies differ: 12 and 10 entries",
    ),
    "labels beyond the logits": (
        ["--model.teacher=null", "--model.objective=CrossEntropy", f"{NET}.init_args.classes=7"],
        "labels reach 9, but the student has 7 logits",
    ),
    "other images": ([f"{NET}.init_args.size=16"], "a training step fails with RuntimeError"),
    "a frozen student": (
        ["--model.student=tests.cli.test_doctor.Frozen"],
        "the student (Frozen) has no trainable parameters",
    ),
    "a student in evaluation mode": (
        ["--model.student=tests.cli.test_doctor.InEvalMode"],
        "their dropout is off: net.1. Hugging Face",
    ),
    "an optimizer that refuses": (
        ["--model.optimizer.lr=-1"],
        "the optimizer cannot be made: Invalid learning rate",
    ),
    "no batch": (["--trainer.limit_train_batches=0.001"], "leaves no batch"),
    "a device that is not there": (
        ["--trainer.accelerator=tpu", "--trainer.devices=4", "--trainer.strategy=auto"],
        "the Trainer cannot be made here: ",
    ),
    "a strategy that is not there": (
        ["--trainer.accelerator=cpu", "--trainer.strategy=fsdp"],
        "the Trainer cannot be made here",
    ),
    "a teacher that is not sharded": (
        [
            '--model.teacher={"class_path": "kdlight.FrozenTeacher", "init_args": {"shard": true,'
            ' "model": {"class_path": "kdlight.SingleInput", "init_args":'
            ' {"net": {"class_path": "kdlight.models.digits.TinyNet"}}}}}'
        ],
        "the teacher is to be sharded",
    ),
    "ranks that do not divide": (
        ["--trainer.accelerator=cpu", "--trainer.devices=2", FSDP2]
        + ["--trainer.strategy.tensor_parallel_size=3"],
        "tensor_parallel_size=3 does not divide the 2 ranks",
    ),
}


@pytest.mark.parametrize(("args", "expected"), CANNOT_WORK.values(), ids=CANNOT_WORK)
def test_a_run_that_cannot_work_is_reported_with_the_reason(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run(capsys, *args)
    assert code == 1
    assert expected in printed[printed.index("error: ") :], printed
    assert "this run cannot work" in printed


def test_all_reasons_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(
        capsys,
        *["--model.teacher=null", "--model.optimizer.lr=-1"],
        *["--trainer.accelerator=tpu", "--model.student=tests.cli.test_doctor.Frozen"],
    )
    assert code == 1
    assert printed.count("error: ") >= 4, printed


WARNINGS = {
    "less data than a batch": (["--data.batch_size=4000"], "1437 samples, less than one batch"),
    "less batches than a step": (
        ["--data.batch_size=1024", "--trainer.accumulate_grad_batches=8"],
        "an epoch has 2 batches, less than accumulate_grad_batches=8",
    ),
    "evaluation mode without dropout": (
        ["--model.student=tests.cli.test_doctor.InEvalMode", "--model.student.dropout=0.0"],
        "parts of the student are in evaluation mode, and stay so",
    ),
}


@pytest.mark.parametrize(("args", "expected"), WARNINGS.values(), ids=WARNINGS)
def test_what_may_not_be_intended_is_a_warning(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = run(capsys, *args)
    assert code == 0, printed
    assert (
        f"warning: {'the training data have ' if '1437' in expected else ''}{expected}" in printed
    )


def test_too_little_memory_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdlight.doctor.available_memory.main_memory", lambda: 100 * 1024)
    code, printed = run(capsys, "--trainer.accelerator=cpu")
    assert code == 1
    assert "a rank needs 104.1 KiB of memory, but 100.0 KiB are available" in printed
    assert "the largest part: teacher, weights, 85.1 KiB" in printed


def test_wrong_options_are_reported_like_those_of_a_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--config", DIGITS, "--model.objective=Nope"])
    assert stop.value.code == 2
    assert "unknown objective 'Nope'" in capsys.readouterr().err


def test_the_main_example_works(
    tiny: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    code, printed = quickstart(capsys, tiny)
    assert code == 0, printed
    assert "batch 4 x 40 positions" in printed
    assert "warning" not in printed
    assert list(tmp_path.iterdir()) == []
