"""Weights of positions do not depend on how a step is split: ranks, micro-batches, chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.ensemble_fit import Result, fit, fit_on_ranks


@pytest.fixture(scope="module")
def whole() -> Result:
    return fit({"batch_size": 8})


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    cases = {
        "ddp": {"batch_size": 2, "accumulate": 2, "strategy": "ddp"},
        "fsdp2": {"batch_size": 4, "strategy": "fsdp2"},
    }
    return fit_on_ranks(cases, tmp_path_factory.mktemp("ranks"))


def equal(one: Result, other: Result) -> None:
    for name, value in one["parameters"].items():
        torch.testing.assert_close(other["parameters"][name], value, rtol=1e-10, atol=1e-12)
    assert len(one["parts"]) == len(other["parts"]) == 4
    for ours, theirs in zip(one["parts"], other["parts"], strict=True):
        assert {"teacher/a/share", "teacher/b/share"} < set(ours)
        assert theirs == pytest.approx(ours, rel=1e-9)
    names = {key for key in one["logged"] if key.startswith("val/teacher")}
    assert {f"val/teacher/{t}/{m}" for t in "ab" for m in ("share", "forward_kl")} < names
    assert {k: other["logged"][k] for k in names} == pytest.approx(
        {k: one["logged"][k] for k in names}, rel=1e-6
    )


def test_micro_batches_and_chunks_change_nothing(whole: Result) -> None:
    equal(whole, fit({"batch_size": 2, "accumulate": 4, "chunked": True}))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks_are_one_process(strategy: str, whole: Result, ranks: list[Any]) -> None:
    for rank in ranks:
        equal(whole, rank[strategy])
