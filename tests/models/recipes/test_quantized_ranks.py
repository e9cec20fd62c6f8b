"""Quantized students on two ranks: buckets are those of whole weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.models.recipes.quantized import fit, logits
from tests.support import rank_scripts
from tests.support.split_fit import largest_difference

pytestmark = pytest.mark.slow

SCHEMES = {
    "uniform": {},
    "points": {"scheme": "points"},
    "whole": {"bucket": None, "layers": 1},
    "all": {"network": "toy", "skip": [], "scheme": "points", "accumulate": 2},
    "head": {"network": "plain", "skip": [], "accumulate": 2},
}
CASES = {
    f"{strategy}, {name}": {"strategy": strategy, **options}
    for strategy in ("ddp", "fsdp2")
    for name, options in SCHEMES.items()
}
fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.models.recipes.quantized", timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[Any]:
    (folder / "results").mkdir()
    cases: dict[str, Any] = {name: {**case, "folder": str(folder)} for name, case in CASES.items()}
    for scheme in ("uniform", "points"):
        cases[f"fsdp2, {scheme}"]["export"] = str(folder / scheme)
    cases["tensor_parallel"] = {"strategy": "fsdp2", "tensor_parallel": 2}
    return fit_on_ranks(cases, folder / "results")


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_train_the_weights_of_one_process(
    name: str, ranks: list[Any], tmp_path: Path
) -> None:
    options = {key: value for key, value in CASES[name].items() if key != "strategy"}
    alone = fit({**options, "folder": str(tmp_path)})
    for rank in ranks:
        assert largest_difference(alone, rank[name]) < 1e-10
    validated = {key: value for key, value in alone["validated"].items() if key.startswith("val/")}
    assert "val/forward_kl" in validated
    for key, value in validated.items():
        assert ranks[0][name]["validated"][key] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("scheme", ["uniform", "points"])
def test_a_sharded_student_is_exported_with_plain_weights(
    scheme: str, ranks: list[Any], folder: Path, tmp_path: Path
) -> None:
    assert "error" not in ranks[0][f"fsdp2, {scheme}"]
    export = str(tmp_path / "alone")
    fit({**SCHEMES[scheme], "folder": str(tmp_path), "export": export})
    one, other = (AutoModelForCausalLM.from_pretrained(each) for each in (export, folder / scheme))
    assert one.dtype == torch.float64
    torch.testing.assert_close(logits(other), logits(one), rtol=0, atol=1e-10)


def test_tensor_parallelism_is_refused(ranks: list[Any]) -> None:
    for rank in ranks:
        assert "tensor_parallel_size=2 would divide" in rank["tensor_parallel"]["error"]
