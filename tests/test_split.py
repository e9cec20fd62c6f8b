"""A law: the gradient of an optimizer step does not depend on how its work is split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import toy

ROOT = Path(__file__).parents[1]
Result = dict[str, Any]


def fit(folder: Path, **options: Any) -> Result:
    """Run `split_fit` in processes of its own."""
    output = folder / f"{abs(hash(json.dumps(options, sort_keys=True)))}.pt"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.split_fit", json.dumps({**options, "output": str(output)})],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(output)


@pytest.fixture(scope="module")
def big_batch(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return fit(tmp_path_factory.mktemp("big"), batch_size=8)


def far(first: Result, second: Result) -> float:
    """Largest difference of two runs, relative to the size of the parameters."""
    a, b = first["parameters"], second["parameters"]
    assert a.keys() == b.keys()
    return max(_relative(a[name], b[name]) for name in a)


def _relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


SPLITS = {
    "accumulated": {"batch_size": 2, "accumulate": 4},
    "ddp": {"batch_size": 2, "accumulate": 2, "ranks": 2, "strategy": "ddp"},
    "fsdp2": {"batch_size": 2, "accumulate": 2, "ranks": 2, "strategy": "fsdp2"},
}


@pytest.mark.parametrize("options", SPLITS.values(), ids=SPLITS)
def test_the_split_changes_nothing(
    options: dict[str, Any], big_batch: Result, tmp_path: Path
) -> None:
    split = fit(tmp_path, **options)
    assert far(big_batch, split) < 1e-10
    assert split["losses"] == pytest.approx(big_batch["losses"], rel=1e-10)
