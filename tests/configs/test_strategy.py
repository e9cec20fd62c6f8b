"""Strategies laid over a config: all parse, and those without GPUs run on two processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import kdlight.configs
from kdlight.cli import main

CONFIGS = Path(kdlight.configs.__path__[0])
OVERLAYS = sorted((CONFIGS / "strategy").glob("*.yaml"))


def overlaid(overlay: Path, config: str = "taid.yaml") -> list[str]:
    return ["fit", "--config", str(CONFIGS / config), "--config", str(overlay)]


@pytest.fixture(autouse=True)
def _like_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["kdlight"])  # Lightning warns of arguments given twice


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_an_overlay_parses_over_a_config(overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*overlaid(overlay), "--print_config"])
    assert done.value.code == 0
    config, expected = yaml.safe_load(capsys.readouterr().out), yaml.safe_load(overlay.read_text())
    for name, value in expected["trainer"].items():
        parsed = config["trainer"][name]
        assert parsed == value or parsed["class_path"] == value["class_path"]
    model = config["model"]["init_args"]
    assert model["objective"]["class_path"] == "kdlight.objectives.TAID"
    assert model["normalization"] == ("local" if overlay.stem == "deepspeed" else "global")


def test_a_config_may_shard_the_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = {"class_path": "kdlight.CausalLM", "init_args": {"source": "some/model"}}
    teacher = {
        "class_path": "kdlight.FrozenTeacher",
        "init_args": {"model": network, "dtype": "bfloat16", "shard": True},
    }
    own = {
        "model": {"init_args": {"teacher": teacher}},
        "data": {"init_args": {"tokenizer": "some/model"}},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(SystemExit) as done:
        main([*overlaid(tmp_path / "own.yaml"), "--print_config"])
    assert done.value.code == 0
    teacher = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["teacher"]["init_args"]
    assert teacher["shard"] is True


QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_checkpointing=false",
    '--trainer.callbacks=[{"class_path":"TrainTeacherFirst","init_args":{"epochs":1}},'
    '"DistillationReport"]',
    "--trainer.logger=CSVLogger",
    "--trainer.logger.save_dir=.",
]


def wait(folder: Path, *commands: list[Any]) -> list[dict[str, str]]:
    """Run commands at the same time, and return the rows of the log that they write."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        for process in started:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in started:
            process.kill()
    (log,) = folder.rglob("metrics.csv")
    names, *rows = (line.split(",") for line in log.read_text().splitlines())
    return [dict(zip(names, row, strict=True)) for row in rows]


def values(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row[name]]


def check_run(rows: list[dict[str, str]], folder: Path) -> None:
    """Three steps of two ranks with 64 images each, validated and reported once."""
    assert values(rows, "train/samples_seen") == [128, 256, 384]
    assert len(values(rows, "val/forward_kl")) == 1
    (report,) = folder.rglob("report.md")
    assert "student after" in report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_two_processes_by_an_overlay(name: str, tmp_path: Path) -> None:
    overlay = overlaid(CONFIGS / "strategy" / f"{name}.yaml", "digits.yaml")
    rows = wait(tmp_path, ["kdlight.cli", *overlay, *QUICK, "--trainer.devices=2"])
    check_run(rows, tmp_path)


@pytest.mark.slow
def test_two_nodes_by_an_overlay(tmp_path: Path) -> None:
    """With FSDP2 laid over it, as a user would for a student that does not fit."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    fit_them = [
        *overlaid(CONFIGS / "strategy" / "multi_node.yaml", "digits.yaml"),
        "--config",
        CONFIGS / "strategy" / "fsdp2.yaml",
        *QUICK,
    ]
    nodes = [
        ["torch.distributed.run", *rendezvous, f"--master-port={port}", f"--node-rank={rank}"]
        + ["-m", "kdlight.cli", *fit_them, "--trainer.devices=1"]
        for rank in range(2)
    ]
    check_run(wait(tmp_path, *nodes), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so nothing is refused")
@pytest.mark.parametrize("name", ["deepspeed", "fsdp1"])
def test_a_strategy_for_gpus_fails_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = overlaid(CONFIGS / "strategy" / f"{name}.yaml", "digits.yaml")
    with pytest.raises(SystemExit) as fit:
        main(overlay)
    assert fit.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: No supported gpu backend found! (trainer.accelerator='gpu'")
    with pytest.raises(SystemExit) as doctor:
        main(["doctor", *overlay[1:]])
    assert doctor.value.code == 1
    assert "error: the Trainer cannot be made here" in capsys.readouterr().out


def test_every_overlay_is_run_or_refused_above() -> None:
    assert [path.stem for path in OVERLAYS] == ["ddp", "deepspeed", "fsdp1", "fsdp2", "multi_node"]
