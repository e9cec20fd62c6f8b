"""Gate, balance and masks are the same on two processes as on one with their joined batch.

Sequences have different lengths, and the second rank has no valid position in the first step.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from lightning.pytorch.utilities.seed import isolate_rng

from tests.support.routed_fit import fit, fit_on_ranks
from tests.support.split_fit import Options, Result, largest_difference

WORK: dict[str, Options] = {
    "ddp": {"strategy": "ddp"},
    "fsdp2": {"strategy": "fsdp2", "objective": {"balance": "cv", "balance_weight": 3.0}},
    "top_k": {
        "strategy": "ddp",
        "chunked": [7, 3],
        "objective": {"routing": "top_k", "k": 2, "balance_weight": 3.0},
    },
}
APART = {"strategy": "ddp", "objective": {"gather": False}}


@cache
def alone(name: str) -> Result:
    with isolate_rng():
        return fit({key: value for key, value in WORK[name].items() if key == "objective"})


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return fit_on_ranks({**WORK, "apart": APART}, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_two_processes_learn_what_one_learns(name: str, together: Any) -> None:
    whole, parts = alone(name), together[0][name]
    assert largest_difference(whole, parts) < 1e-9
    assert largest_difference(parts, together[1][name]) == 0
    assert parts["losses"] == pytest.approx(whole["losses"], rel=1e-9)
    for each in ("kd/balance", "kd/share/masked", "kd/kl/other", "loss"):
        key = f"train/{each}"
        assert parts["logged"][key] == pytest.approx(whole["logged"][key], rel=1e-9)


@pytest.mark.slow
def test_a_balance_of_each_rank_gives_other_results(together: Any) -> None:
    """The test above can fail."""
    assert largest_difference(alone("ddp"), together[0]["apart"]) > 1e-4
