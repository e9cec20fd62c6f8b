"""The gradient of an optimizer step does not depend on how its work is split.

Parameters are compared after several steps, of which the last has fewer micro-batches, on sequences
of very different length. Some sequences have no valid position: all of the first micro-batch, one
in the middle, and all that the second of two ranks gets in the first step.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from kdlight.objectives import ForwardKL
from tests.support import toy
from tests.support.split_fit import Options, Result, fit, fit_on_ranks, largest_difference

BIG = {"batch_size": 8}
SPLITS: dict[str, Options] = {
    "accumulated": {"batch_size": 2, "accumulate": 4},
    "ddp": {"batch_size": 2, "accumulate": 2, "strategy": "ddp"},
    "fsdp2": {"batch_size": 2, "accumulate": 2, "strategy": "fsdp2"},
}
ON_RANKS = [name for name in SPLITS if "strategy" in SPLITS[name]]

# The options of a fit, and the tolerance between two splits.
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
    "llama": ({"network": "llama"}, 1e-6),  # Llama computes its norms in float32 whatever its dtype
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
    """Run all fits on two ranks in one process each, as starting a process takes seconds."""
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
    """Return a function from a case to its result on the first rank."""

    def get_result(work: str, split: str, **more: Any) -> Result:
        if split in ON_RANKS:
            name = "local" if more else work
            return request.getfixturevalue("on_ranks")[0][f"{name} {split}"]
        return fit(options(work, SPLITS[split], **more))

    return get_result


@pytest.mark.slow
@pytest.mark.parametrize(("work", "split"), CASES)
def test_parameters_do_not_depend_on_the_split(work: str, split: str, result: Any) -> None:
    expected, split_result, tolerance = big_batch(work), result(work, split), WORK[work][1]
    assert largest_difference(expected, split_result) < tolerance
    assert split_result["losses"] == pytest.approx(expected["losses"], rel=max(tolerance, 1e-9))


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_a_mean_of_means_does_depend_on_the_split(split: str, result: Any) -> None:
    """The test above can fail: this is what Lightning does by default."""
    assert (
        largest_difference(big_batch("float64"), result("float64", split, normalization="local"))
        > 1e-2
    )


def test_clipping_and_parameters_of_the_objective_have_an_effect() -> None:
    """Otherwise the test above would not cover them."""
    free = fit(options("own_parameters", BIG) | {"clip": None})
    assert largest_difference(free, big_batch("own_parameters")) > 1e-3
    assert largest_difference(big_batch("float64"), big_batch("clipped")) > 1e-2
    assert free["parameters"]["terms.kd.g"].item() != pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("work", [work for work in WORK if f"chunked_{work}" in WORK])
def test_chunks_change_nothing(work: str) -> None:
    expected, chunked = big_batch(work), big_batch(f"chunked_{work}")
    assert largest_difference(expected, chunked) < WORK[work][1]
    assert chunked["losses"] == pytest.approx(expected["losses"], rel=max(WORK[work][1], 1e-9))


def test_a_mixin_equals_a_module() -> None:
    """For the same mixture, of which one term is the training step of the module."""
    expected, mixed = big_batch("clipped"), big_batch("mixin")
    assert largest_difference(expected, mixed) < 1e-10


def test_packed_sequences_equal_padded_ones() -> None:
    assert largest_difference(big_batch("float64"), big_batch("packed")) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_a_schedule_is_updated_once_per_step_and_equally_on_all_ranks(
    split: str, result: Any, request: pytest.FixtureRequest
) -> None:
    expected, split_result = big_batch("taid"), result("taid", split)
    assert len(split_result["t"]) == len(split_result["losses"]) == 8
    assert split_result["t"] == pytest.approx(expected["t"], rel=1e-10)
    assert len(set(expected["t"])) > 4
    if split in ON_RANKS:
        first, second = (rank[f"taid {split}"] for rank in request.getfixturevalue("on_ranks"))
        assert first["t"] == second["t"]
        assert first["losses"] == second["losses"]


def test_a_mixture_of_units_weights_each_by_the_tokens_of_its_batch() -> None:
    """On a single optimizer step of two micro-batches."""
    two = {"batch_size": 4, "accumulate": 2, "objective": "two_units", "data": {"count": 8}}
    data, module = toy.Ragged(8), toy.module(dtype="float64")
    inputs = [
        module.loss_inputs(toy.pad([data[i] for i in batch])) for batch in (range(4), range(4, 8))
    ]
    tokens = [each.valid_positions().numel() for each in inputs]
    totals = [
        ForwardKL()(each).total + count * toy.PerSequence()(each).mean()
        for each, count in zip(inputs, tokens, strict=True)
    ]
    assert fit(two)["losses"] == pytest.approx([torch.stack(totals).sum().item() / sum(tokens)])


def test_a_mixture_of_units_does_not_depend_on_the_split_for_equal_lengths() -> None:
    """`Weighted` converts a term of another unit to tokens in each micro-batch."""
    alike = {"data": {"count": 27, "silent": [], "length": 9}, "objective": "two_units"}
    expected = fit({**BIG, **alike})
    assert largest_difference(expected, fit({**SPLITS["accumulated"], **alike})) < 1e-10
