"""Two ranks draw and weigh domains like one process."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.cache import cache_teacher
from kdlight.data.domains.draws import DomainDraws
from tests.support import domain_fit
from tests.support.rank_scripts import results_of_ranks, run_script

STRATEGIES = ["ddp", "fsdp2"]
RESUMED = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    domain_fit.write_domains(folder)  # before two ranks would
    return folder


def case(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "reweighting": {"every": 7, "samples": 13},  # which two ranks do not divide evenly
        "data": {"batch_size": 2},
        "trainer": {"max_steps": 40},
        **options,
    }


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Any]:
    domains = domain_fit.data(folder)
    (folder / "results").mkdir()
    cache_teacher(domain_fit.network(2), domains, str(folder / "cache"), k=3)
    cases = {name: case(folder, strategy=name) for name in STRATEGIES}
    cases["cached"] = case(folder, strategy="ddp", cache=str(folder / "cache"))
    other = {"batch_size": 2, "seed": 5, "validation_fraction": 0.5}
    cases["other"] = case(folder, strategy="ddp", cache=str(folder / "cache"), data=other)
    for name in STRATEGIES:
        saves = {"strategy": name, "save_every": RESUMED, "saved": str(folder / name)}
        cases[f"{name} saved"] = case(folder, **saves)
        resume = str(folder / name / f"step={RESUMED}.ckpt")
        saves["saved"] = str(folder / f"{name} resumed")
        cases[f"{name} resumed"] = case(folder, **saves, resume=resume)
    return domain_fit.fit_on_ranks(cases, folder / "results", timeout=400)


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    return domain_fit.fit(case(folder, data={"batch_size": 4}))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_draws_are_those_of_one_process(
    strategy: str, ranks: list[Any], alone: dict[str, Any]
) -> None:
    parts = [sum(rank[strategy]["batches"], []) for rank in ranks]
    assert [*chain(*zip(*parts, strict=True))] == sum(alone["batches"], [])
    first = [set(part[:20]) for part in parts]
    assert not first[0] & first[1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_are_the_same_on_both_ranks_and_on_one(
    strategy: str, ranks: list[Any], alone: dict[str, Any]
) -> None:
    assert ranks[0][strategy]["plan"] == ranks[1][strategy]["plan"]
    assert ranks[0][strategy]["history"] == ranks[1][strategy]["history"]
    history = ranks[0][strategy]["history"]
    assert len(history) == 6
    for here, there in zip(history, alone["history"], strict=True):
        assert here["weights"] == pytest.approx(there["weights"], rel=1e-6)
        assert here["student_perplexity"] == pytest.approx(there["student_perplexity"], rel=1e-6)
    assert ranks[0][strategy]["logged"][-1] == pytest.approx(alone["logged"][-1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_run_is_the_same(strategy: str, ranks: list[Any]) -> None:
    for rank in ranks:
        whole, resumed = rank[f"{strategy} saved"], rank[f"{strategy} resumed"]
        assert resumed["batches"] == whole["batches"][RESUMED:]
        assert resumed["plan"] == whole["plan"]
        for name, value in whole["parameters"].items():
            assert torch.equal(value, resumed["parameters"][name]), name


@pytest.mark.slow
def test_workers_of_two_ranks_agree(folder: Path, tmp_path: Path) -> None:
    options = case(folder, strategy="ddp", data={"batch_size": 2, "num_workers": 1}, ranks=2)
    run_script("tests.support.domain_fit", json.dumps({"workers": options}), str(tmp_path))
    first, second = (each["workers"] for each in results_of_ranks(tmp_path))
    assert first["plan"] == second["plan"]
    assert first["plan"][1][0] == (7 + 2) * 4
    assert first["logged"][-1]["train/domain_lag"] == 2
    draws = DomainDraws(first["sizes"], seed=1)
    draws.plan = first["plan"]
    parts = [sum(each["batches"], []) for each in (first, second)]
    assert [*chain(*zip(*parts, strict=True))] == draws.samples(0, 160).tolist()


@pytest.mark.slow
def test_a_cache_that_cannot_tell_is_refused_on_both_ranks(ranks: list[Any]) -> None:
    for rank in ranks:
        assert "holds no probability of some labels" in rank["cached"]["error"]
        assert "it cannot answer" in rank["other"]["error"]
