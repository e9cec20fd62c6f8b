"""The environment of a run, from a Trainer or from options that this machine does not support."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from kdlight.doctor import RunEnvironment
from tests.support import toy


def test_the_environment_of_a_trainer(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path, devices=2, num_nodes=3, strategy="ddp", precision="bf16-mixed")
    environment = RunEnvironment.from_trainer(trainer)
    assert environment.strategy is trainer.strategy
    assert (environment.devices, environment.nodes, environment.ranks) == (2, 3, 6)
    assert environment.is_available


@pytest.mark.parametrize(
    ("precision", "autocast", "weights"),
    [
        ("32-true", None, None),
        ("bf16-mixed", torch.bfloat16, None),
        ("16-mixed", torch.float16, None),
        ("bf16-true", None, torch.bfloat16),
    ],
)
def test_precision_is_that_of_autocast_or_of_weights(
    precision: str, autocast: torch.dtype | None, weights: torch.dtype | None
) -> None:
    environment = RunEnvironment(None, precision=precision)
    assert (environment.autocast_dtype, environment.weight_dtype) == (autocast, weights)


@pytest.mark.parametrize(
    ("devices", "count"), [(4, 4), ("4", 4), ([0, 2], 2), ("auto", 1), (-1, 1), (None, 1)]
)
def test_devices_are_counted(devices: Any, count: int) -> None:
    environment = RunEnvironment.from_options({"devices": devices, "num_nodes": 2})
    assert (environment.ranks, environment.is_available) == (2 * count, False)


def test_a_strategy_is_found_by_name_or_is_unknown() -> None:
    assert isinstance(RunEnvironment.from_options({"strategy": "ddp"}).strategy, DDPStrategy)
    assert RunEnvironment.from_options({"strategy": "nothing"}).strategy is None
