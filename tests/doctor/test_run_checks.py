"""Parts of a run that do not fit each other, or the strategy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lightning.pytorch.strategies import FSDPStrategy

from kdlight.cli import main
from kdlight.distributed import FSDP2Strategy
from kdlight.doctor import RunEnvironment
from kdlight.doctor.run_checks import check_parts
from tests.support import toy
from tests.support.config_runs import FOLDER, tiny
from tests.support.doctor_runs import make_module, quickstart

__all__ = ["tiny"]  # the fixture


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])


def test_a_block_longer_than_the_context(
    tiny: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, printed = quickstart(capsys, tiny, "--data.block_size=512")
    assert code == 1
    assert "error: block_size is 512, but the context of the student is 256 tokens" in printed


def check(tmp_path: Path, environment: RunEnvironment, **options: object) -> list[str]:
    trainer = toy.trainer(tmp_path, **options)
    trainer.datamodule = None  # type: ignore[attr-defined]
    return [finding.text for finding in check_parts(make_module("toy"), trainer, environment)]


def test_parts_that_fit_have_no_findings(tmp_path: Path) -> None:
    assert check(tmp_path, RunEnvironment(None)) == []


def test_a_tensor_parallel_size_must_divide_the_ranks(tmp_path: Path) -> None:
    strategy = FSDP2Strategy(tensor_parallel_size=3)
    (text,) = check(tmp_path, RunEnvironment(strategy, devices=4, nodes=2))
    assert text.startswith("tensor_parallel_size=3 does not divide the 8 ranks")
    assert check(tmp_path, RunEnvironment(strategy, devices=3)) == []


@pytest.mark.parametrize(("algorithm", "count"), [("norm", 1), ("value", 0)])
def test_the_older_fsdp_does_not_clip_by_norm(algorithm: str, count: int, tmp_path: Path) -> None:
    options = {"gradient_clip_val": 1.0, "gradient_clip_algorithm": algorithm}
    found = check(tmp_path, RunEnvironment(FSDPStrategy(), devices=2), **options)
    assert len([text for text in found if "clips by norm" in text]) == count


def test_networks_that_are_trained_together_need_no_teacher(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["doctor", "--config", str(FOLDER / "mutual_learning.yaml")])
    assert "this run can start" in capsys.readouterr().out
