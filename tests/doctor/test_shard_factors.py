"""What each strategy shards, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.distributed import FSDP2Strategy
from kdlight.doctor import RunEnvironment, examine
from kdlight.doctor.shard_factors import ShardFactors, shard_factors
from tests.support import toy
from tests.support.doctor_runs import make_data, make_module, rows

RANKS = {
    "ddp": ("ddp", ShardFactors(ddp_buckets=True)),
    "one device": ("auto", ShardFactors()),
    "fsdp2": (FSDP2Strategy(), ShardFactors(4, 4, 4, 4, gathers_layers=True)),
    "fsdp2, two by two": (
        FSDP2Strategy(tensor_parallel_size=2),
        ShardFactors(2, 2, 2, 2, gathers_layers=True),
    ),
}


@pytest.mark.parametrize(("strategy", "expected"), RANKS.values(), ids=RANKS)
def test_what_ranks_share(strategy: Any, expected: ShardFactors, tmp_path: Path) -> None:
    devices = 1 if strategy == "auto" else 4
    trainer = toy.trainer(tmp_path, devices=devices, strategy=strategy)
    assert shard_factors(RunEnvironment.from_trainer(trainer)) == expected
    alone = rows(examine(make_module("toy"), make_data(), toy.trainer(tmp_path)))
    shared = rows(examine(make_module("toy"), make_data(), trainer))
    for name in ("weights, trained", "gradients", "optimizer state"):
        whole = alone[name].bytes
        assert whole is not None
        assert shared[name].bytes == whole // expected.optimizer
    assert ("gradients, in DDP's buckets" in shared) == expected.ddp_buckets
    assert ("student, gathered to be used" in shared) == expected.gathers_layers
