"""Runs for the doctor: a module and its data, rows of a report, and the command itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight import DistillationModule, FrozenTeacher
from kdlight.cli import main
from kdlight.doctor import Report
from kdlight.doctor.memory_rows import MemoryRow
from kdlight.objectives import ForwardKL
from tests.support import toy
from tests.support.config_runs import FOLDER, arguments

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "AdamW": {"lr": 1e-3},
    "Adafactor": {"lr": 1e-3},  # reads values, and keeps rows and columns
    "Adagrad": {"lr": 1e-3},
}


def make_module(network: str, optimizer: str = "AdamW", **options: Any) -> DistillationModule:
    network_class, optimizer_class = toy.NETWORKS[network], getattr(torch.optim, optimizer)
    return DistillationModule(
        student=network_class(32, seed=1),
        teacher=FrozenTeacher(network_class(48, seed=2), dtype="bfloat16"),
        objective=ForwardKL(),
        optimizer=lambda groups: optimizer_class(groups, **OPTIMIZERS[optimizer]),
        **options,
    )


def make_data() -> toy.RaggedModule:
    return toy.RaggedModule(batch_size=16, count=16, silent=(), length=32)


def rows(report: Report) -> dict[str, MemoryRow]:
    return {row.name: row for row in report.rows}


def known(report: Report, name: str) -> int:
    """Return the bytes of one row, which are known."""
    count = rows(report)[name].bytes
    assert count is not None
    return count


def quickstart(
    capsys: pytest.CaptureFixture[str], tiny: dict[str, str], *args: str
) -> tuple[int, str]:
    """Run the doctor on the main example with a tiny model; return the exit code and the output."""
    code = 0
    try:
        main(["doctor", *arguments(FOLDER / "quickstart.yaml", tiny)[1:], *args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, " ".join(capsys.readouterr().out.split())
