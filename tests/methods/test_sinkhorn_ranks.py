"""The batch geometry spans all ranks: training on two processes equals that on their joined batch.

Sequences have different lengths, and the second rank has no point in the first step.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from lightning.pytorch.utilities.seed import isolate_rng

from tests.support.split_fit import Options, Result, fit, fit_on_ranks, largest_difference

RAGGED = {"count": 27, "silent": [0, 1, 3, 5, 7, 10, 11]}
WORK: dict[str, Options] = {
    "toy ddp": {"objective": "sinkd", "strategy": "ddp"},
    "toy fsdp2": {"objective": "sinkd", "strategy": "fsdp2"},
    "plain ddp": {"objective": "sinkd", "strategy": "ddp", "network": "plain"},
    "plain fsdp2": {"objective": "sinkd", "strategy": "fsdp2", "network": "plain"},
    "debiased": {"objective": "sinkd_debiased", "strategy": "ddp"},
}
APART = {"objective": "sinkd_apart", "strategy": "ddp"}


@cache
def alone(name: str) -> Result:
    with isolate_rng():
        one = {key: value for key, value in WORK[name].items() if key != "strategy"}
        return fit({"data": RAGGED, "batch_size": 8, **one})


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    cases = {
        name: {"data": RAGGED, "batch_size": 4, **options}
        for name, options in {**WORK, "apart": APART}.items()
    }
    return fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_two_processes_learn_what_one_learns(name: str, together: Any) -> None:
    whole, parts = alone(name), together[0][name]
    assert largest_difference(whole, parts) < 1e-10
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-9)
    assert together[1][name]["losses"] == parts["losses"]
    logged = "train/sinkhorn/points"
    assert whole["logged"][logged] > 1
    assert parts["logged"][logged] == pytest.approx(whole["logged"][logged])


@pytest.mark.slow
def test_separate_problems_of_each_rank_give_other_results(together: Any) -> None:
    """The test above can fail."""
    assert largest_difference(alone("toy ddp"), together[0]["apart"]) > 1e-4
