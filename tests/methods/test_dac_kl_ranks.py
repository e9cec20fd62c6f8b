"""The clipping network is trained the same on two processes as on one."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from lightning.pytorch.utilities.seed import isolate_rng

from tests.distributed.test_split import RAGGED
from tests.support.split_fit import Options, Result, fit, fit_on_ranks, largest_difference

WORK: Options = {"objective": "dac_kl", "data": RAGGED}
SPLITS: dict[str, Options] = {
    "ddp": {"strategy": "ddp"},
    "fsdp2": {"strategy": "fsdp2"},
    "chunked ddp": {"strategy": "ddp", "chunked": [7, 3]},
}


@cache
def alone(batch_size: int = 8, **more: Any) -> Result:
    with isolate_rng():
        return fit({**WORK, "batch_size": batch_size, **more})


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    cases = {name: {**WORK, "batch_size": 4, **split} for name, split in SPLITS.items()}
    return fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SPLITS)
def test_two_processes_learn_what_one_learns(name: str, together: Any) -> None:
    whole, parts = alone(), together[0][name]
    assert largest_difference(whole, parts) < 1e-10
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-9)
    assert parts["logged"]["train/kd/upper"] == pytest.approx(whole["logged"]["train/kd/upper"])


def test_accumulation_changes_nothing_and_the_network_is_trained() -> None:
    assert largest_difference(alone(), alone(2, accumulate=4)) < 1e-10
    learned = alone()["parameters"]
    assert any("thresholds.net" in name for name in learned)
    once = fit({**WORK, "batch_size": 8, "epochs": 2})["parameters"]
    last = max(name for name in learned if "thresholds.net" in name and name.endswith("bias"))
    assert (once[last] - learned[last]).abs().max() > 1e-6
