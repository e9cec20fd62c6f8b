"""Students that answer prompts on two ranks give the answers of one process."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import solve_rate_fit
from tests.support.forked_ranks import run_forked
from tests.support.rank_scripts import results_of_ranks

STRATEGIES = ["ddp", "fsdp2"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    run_forked("tests.support.solve_rate_fit", str(folder), timeout=300)
    return results_of_ranks(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", solve_rate_fit.CALLBACKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_answers_are_those_of_one_process(strategy: str, name: str, ranks: list[Any]) -> None:
    alone = solve_rate_fit.measure(name, "one")
    for rank in ranks:
        assert rank[strategy][name]["answers"] == alone["answers"]
        assert rank[strategy][name]["values"] == pytest.approx(alone["values"])
    assert len(alone["values"]) == (5 if name == "sampled" else 3)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_on_ranks_is_the_same_without_it(strategy: str, ranks: list[Any]) -> None:
    for rank in ranks:
        with_it, without = dict(rank[strategy]["with"]), dict(rank[strategy]["without"])
        assert with_it.pop("rate") == ranks[0][strategy]["with"]["rate"] is not None
        assert without.pop("rate") is None
        assert with_it == without


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_verifier_that_fails_on_one_rank_is_an_error_on_both(
    strategy: str, ranks: list[Any]
) -> None:
    for rank in ranks:
        assert rank[strategy]["error"] == "division by zero"
