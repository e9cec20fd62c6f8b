"""REDI on micro-batches and on ranks, as tests/distributed/test_split.py has it for others."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from lightning.pytorch.utilities.seed import isolate_rng

from tests.support.split_fit import Options, Result, fit, fit_on_ranks

BIG: Options = {"batch_size": 8, "validate": 0.0}
RAGGED = {
    "count": 27,
    "silent": [0, 1, 3, 5, 7, 10, 11],
    "rejected": [
        2,
        4,
        6,
        9,
        12,
        13,
        14,
        15,
        21,
        23,
        25,
    ],  # some micro-batches hold only rejected ones
}
WORK: dict[str, Options] = {"plain": {"objective": "redi"}, "kd": {"objective": "redi_kd"}}
SPLITS: dict[str, Options] = {
    "accumulated": {"batch_size": 2, "accumulate": 4},
    "ddp": {"batch_size": 2, "accumulate": 2, "strategy": "ddp"},
    "fsdp2": {"batch_size": 2, "accumulate": 2, "strategy": "fsdp2"},
}


def options(work: str, split: Options) -> Options:
    return {**BIG, "data": RAGGED, **WORK[work], **split}


@cache
def whole(work: str) -> Result:
    with isolate_rng():
        return fit(options(work, {}))


def far(first: Result, second: Result) -> float:
    assert "error" not in second, second["error"]
    a, b = first["parameters"], second["parameters"]
    return max(((a[name] - b[name]).abs().max() / a[name].abs().max()).item() for name in a)


@pytest.mark.parametrize("work", WORK)
def test_micro_batches_change_nothing(work: str) -> None:
    assert far(whole(work), fit(options(work, SPLITS["accumulated"]))) < 1e-10


@pytest.mark.slow
def test_ranks_change_nothing(tmp_path: Any) -> None:
    cases = {f"{w} {s}": options(w, SPLITS[s]) for w in WORK for s in ("ddp", "fsdp2")}
    ranks = fit_on_ranks(cases, tmp_path)
    for name in cases:
        assert far(whole(name.split()[0]), ranks[0][name]) < 1e-10
        assert ranks[0][name]["losses"] == ranks[1][name]["losses"]
