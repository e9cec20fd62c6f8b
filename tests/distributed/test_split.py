"""A law: the gradient of an optimizer step does not depend on how its work is split.

What is learned is compared after several steps, the last of them an incomplete window, among
sequences of very different length. Some have no position that counts: the whole first micro-batch,
one in the middle, and all that the second of two ranks sees in the first step.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from kdlight.objectives import ForwardKL
from tests.support import toy
from tests.support.split_fit import Options, Result, fit, fit_on_ranks

BIG = {"batch_size": 8}
SPLITS: dict[str, Options] = {
    "accumulated": {"batch_size": 2, "accumulate": 4},
    "ddp": {"batch_size": 2, "accumulate": 2, "strategy": "ddp"},
    "fsdp2": {"batch_size": 2, "accumulate": 2, "strategy": "fsdp2"},
}
ON_RANKS = [name for name in SPLITS if "strategy" in SPLITS[name]]

# What is learned and how, and how far two splits may be apart.
RAGGED = {"count": 27, "silent": [0, 1, 3, 5, 7, 10, 11]}
WORK: dict[str, tuple[Options, float]] = {
    "float64": ({}, 1e-10),
    "float32": ({"dtype": "float32"}, 1e-6),
    "clipped": ({"clip": 0.02}, 1e-10),
    "taid": ({"objective": "taid", "epochs": 2}, 1e-10),
    "own_parameters": ({"objective": "temperature", "clip": 0.05}, 1e-10),
    "sequences": ({"objective": "sequences"}, 1e-10),
    "plain": ({"network": "plain"}, 1e-10),
    "mixin": ({"mixin": True, "clip": 0.02}, 1e-10),
    "llama": ({"network": "llama"}, 1e-6),  # Llama's norm is made in float32 whatever the weights
    "bfloat16": ({"dtype": "float32", "precision": "bf16-mixed"}, 5e-3),
    "float16": ({"dtype": "float32", "precision": "16-mixed"}, 5e-3),
    "packed": ({"data": {**RAGGED, "packed": True}}, 1e-10),
    "chunked_float64": ({"chunked": [7, 3]}, 1e-10),
    "chunked_own_parameters": (
        {"chunked": [7, 3], "objective": "temperature", "clip": 0.05},
        1e-10,
    ),
    "chunked_llama": ({"chunked": [7, 3], "network": "llama"}, 1e-6),
    "chunked_bfloat16": (
        {"chunked": [7, 3], "dtype": "float32", "precision": "bf16-mixed"},
        5e-3,
    ),
    "chunked_float16": ({"chunked": [7, 3], "dtype": "float32", "precision": "16-mixed"}, 5e-3),
}
CASES = [(work, split) for work in WORK for split in SPLITS]


def options(work: str, split: Options, **more: Any) -> Options:
    return {"data": RAGGED, **WORK[work][0], **split, **more}


@cache
def big_batch(work: str) -> Result:
    with isolate_rng():
        return fit(options(work, BIG))


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """All that takes two processes, one fit after another: starting them is what takes long."""
    cases = {
        f"{work} {split}": options(work, SPLITS[split])
        for work, split in CASES
        if split in ON_RANKS
    }
    local = {
        f"local {name}": options("float64", SPLITS[name], normalization="local")
        for name in ON_RANKS
    }
    return fit_on_ranks({**cases, **local}, tmp_path_factory.mktemp("ranks"))


@pytest.fixture
def result(request: pytest.FixtureRequest) -> Any:
    """The result of a split, on the first rank."""

    def find(work: str, split: str, **more: Any) -> Result:
        if split in ON_RANKS:
            name = "local" if more else work
            return request.getfixturevalue("on_ranks")[0][f"{name} {split}"]
        return fit(options(work, SPLITS[split], **more))

    return find


def far(first: Result, second: Result) -> float:
    """Largest difference of two runs, relative to the size of the parameters."""
    assert "error" not in second, second["error"]
    a, b = first["parameters"], second["parameters"]
    assert a.keys() == b.keys()
    return max(((a[name] - b[name]).abs().max() / a[name].abs().max()).item() for name in a)


@pytest.mark.slow
@pytest.mark.parametrize(("work", "split"), CASES)
def test_the_split_changes_nothing(work: str, split: str, result: Any) -> None:
    whole, parts, tolerance = big_batch(work), result(work, split), WORK[work][1]
    assert far(whole, parts) < tolerance
    assert parts["losses"] == pytest.approx(whole["losses"], rel=max(tolerance, 1e-9))


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_a_mean_of_means_is_another_thing(split: str, result: Any) -> None:
    """The law above can fail: this is what Lightning does by itself."""
    assert far(big_batch("float64"), result("float64", split, normalization="local")) > 1e-2


def test_clipping_and_own_parameters_bite() -> None:
    """Else the law would say nothing of them."""
    free = fit(options("own_parameters", BIG) | {"clip": None})
    assert far(free, big_batch("own_parameters")) > 1e-3
    assert far(big_batch("float64"), big_batch("clipped")) > 1e-2
    assert free["parameters"]["terms.kd.g"].item() != pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("work", [work for work in WORK if f"chunked_{work}" in WORK])
def test_chunks_change_nothing(work: str) -> None:
    whole, chunked = big_batch(work), big_batch(f"chunked_{work}")
    assert far(whole, chunked) < WORK[work][1]
    assert chunked["losses"] == pytest.approx(whole["losses"], rel=max(WORK[work][1], 1e-9))


def test_a_mixin_learns_what_a_module_learns() -> None:
    """The same mixture, of which one half is the training step of somebody else's module."""
    whole, mixed = big_batch("clipped"), big_batch("mixin")
    assert far(whole, mixed) < 1e-10


def test_padding_is_no_work() -> None:
    assert far(big_batch("float64"), big_batch("packed")) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_a_schedule_moves_once_a_step_and_alike_everywhere(
    split: str, result: Any, request: pytest.FixtureRequest
) -> None:
    whole, parts = big_batch("taid"), result("taid", split)
    assert len(parts["t"]) == len(parts["losses"]) == 8
    assert parts["t"] == pytest.approx(whole["t"], rel=1e-10)
    assert len(set(whole["t"])) > 4
    if split in ON_RANKS:
        first, second = (rank[f"taid {split}"] for rank in request.getfixturevalue("on_ranks"))
        assert first["t"] == second["t"]
        assert first["losses"] == second["losses"]


def test_a_mixture_of_units_weighs_each_by_the_tokens_of_its_batch() -> None:
    """The one rule of `Weighted`, on a single optimizer step of two micro-batches."""
    two = {"batch_size": 4, "accumulate": 2, "objective": "two_units", "data": {"count": 8}}
    data, module = toy.Ragged(8), toy.module(dtype="float64")
    steps = [module.step(toy.pad([data[i] for i in batch])) for batch in (range(4), range(4, 8))]
    tokens = [step.valid_positions().numel() for step in steps]
    totals = [
        ForwardKL()(step).total + count * toy.PerSequence()(step).mean()
        for step, count in zip(steps, tokens, strict=True)
    ]
    assert fit(two)["losses"] == pytest.approx([torch.stack(totals).sum().item() / sum(tokens)])


def test_a_mixture_of_units_is_invariant_where_sequences_are_alike() -> None:
    """`Weighted` brings a term of another unit to tokens micro-batch by micro-batch."""
    alike = {"data": {"count": 27, "silent": [], "length": 9}, "objective": "two_units"}
    whole = fit({**BIG, **alike})
    assert far(whole, fit({**SPLITS["accumulated"], **alike})) < 1e-10
