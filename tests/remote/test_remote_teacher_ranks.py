"""Two ranks, each of which asks for its own rows, train as one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.remote.test_remote_teacher import TOKEN_OBJECTIVES
from tests.support.rank_scripts import fit_on_ranks
from tests.support.served_fit import causal_lm, largest_difference, served
from tests.support.served_rank_fit import fit

pytestmark = pytest.mark.slow

STUDENT_IDS = {"k": 5, "tokens": "student"}
CASES: dict[str, dict[str, Any]] = {
    **{f"ddp {name}": {"name": name, "strategy": "ddp"} for name in TOKEN_OBJECTIVES},
    "ddp ids": {"name": "topk_reverse_kl", "strategy": "ddp", "teacher": STUDENT_IDS},
    **{f"fsdp2 {n}": {"name": n, "strategy": "fsdp2"} for n in ("forward_kl", "taid")},
    "fsdp2 ids": {"name": "topk_reverse_kl", "strategy": "fsdp2", "teacher": STUDENT_IDS},
    "fsdp2 states": {"name": "reverse_kl", "strategy": "fsdp2", "teacher": {"states": True}},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(causal_lm(), states="float32") as address:
        yield address


@pytest.fixture(scope="module")
def ranks(url: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    cases = {name: {"url": url, **case} for name, case in CASES.items()}
    folder = tmp_path_factory.mktemp("ranks")
    return fit_on_ranks("tests.support.served_rank_fit", cases, folder, timeout=400)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_are_one_process(case: str, url: str, ranks: list[Any], tmp_path: Path) -> None:
    alone = fit({"url": url, **{k: v for k, v in CASES[case].items() if k != "strategy"}})
    for each in ranks:
        assert largest_difference(alone, each[case]) < 1e-6
