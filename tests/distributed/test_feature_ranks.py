"""A loss on features is the same on one process and on two ranks, wherever the features are."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from lightning.pytorch.utilities.seed import isolate_rng

from tests.support.feature_fit import OBJECTIVES, fit, fit_on_ranks
from tests.support.split_fit import Options, Result, largest_difference

SPLIT = {"batch_size": 4}
ACCUMULATED = {"batch_size": 2, "accumulate": 2}
FIND_UNUSED = "ddp_find_unused_parameters_true"
WITH_LOGITS = [name for name in OBJECTIVES if "logits" in name or "labels" in name]
MIXINS = {
    "in one pass": {"passes": 1},
    "in two passes": {"passes": 2},
    "without its own step": {"task_weight": 0.0},
}

# The options of a fit on two ranks; without strategy, ranks and split it is that of one process.
CASES: dict[str, Options] = {
    **{f"fsdp2 {name}": {"objective": name, "strategy": "fsdp2", **SPLIT} for name in OBJECTIVES},
    **{f"ddp {name}": {"objective": name, "strategy": "ddp", **SPLIT} for name in WITH_LOGITS},
    **{
        f"ddp unused {name}": {"objective": name, "strategy": FIND_UNUSED, **SPLIT}
        for name in ("layers", "inside", "batch")
    },
    **{
        f"{strategy} accumulated": {
            "objective": "layers and logits",
            "strategy": strategy,
            **ACCUMULATED,
        }
        for strategy in ("ddp", "fsdp2")
    },
    "fsdp2 accumulated inside": {"objective": "inside", "strategy": "fsdp2", **ACCUMULATED},
}
for extra in ("layers and logits", "inside", "embedding"):
    base = {"objective": extra, "strategy": "fsdp2", **SPLIT}
    CASES[f"fsdp2 clipped {extra}"] = {**base, "clip": 1e-4}
    CASES[f"fsdp2 checkpointed {extra}"] = {**base, "checkpointing": False}
    CASES[f"fsdp2 with a sharded teacher {extra}"] = {**base, "teacher": {"shard": True}}
    CASES[f"fsdp2 validated {extra}"] = {**base, "validate": 1.0, "sanity": 1}
for manner, mixin in MIXINS.items():
    for strategy, inside in (("fsdp2", "inside"), ("ddp", "inside and logits")):
        CASES[f"{strategy} mixin {manner}"] = {
            "objective": inside,
            "strategy": strategy,
            "mixin": mixin,
            **SPLIT,
        }


@cache
def one_process(objective: str, clip: float | None = None, manner: str | None = None) -> Result:
    options: Options = {"objective": objective, "batch_size": 8, "clip": clip}
    with isolate_rng():
        return fit(options if manner is None else options | {"mixin": MIXINS[manner]})


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    unused = {"ddp without the logits": {"objective": "layers", "strategy": "ddp", **SPLIT}}
    half = {
        f"{strategy} {precision}": {
            "objective": "layers and logits",
            "strategy": strategy,
            "precision": precision,
            "dtype": "float32",
            **SPLIT,
        }
        for strategy in ("ddp", "fsdp2")
        for precision in ("bf16-mixed", "bf16-true")
    }
    return fit_on_ranks({**CASES, **half, **unused}, tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(case: str, on_ranks: list[Result]) -> None:
    options = CASES[case]
    manner = next((name for name in MIXINS if case.endswith(name)), None)
    expected = one_process(options["objective"], options.get("clip"), manner)
    for rank in on_ranks:
        assert largest_difference(expected, rank[case]) < 1e-12
        assert rank[case]["losses"] == pytest.approx(expected["losses"], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision(strategy: str, precision: str, on_ranks: list[Result]) -> None:
    expected = one_process("layers and logits")
    result: Any = on_ranks[0][f"{strategy} {precision}"]
    assert result["losses"] == pytest.approx(expected["losses"], rel=1e-2)


@pytest.mark.slow
def test_a_teacher_is_sharded_beside_the_student(on_ranks: list[Result]) -> None:
    """And both are divided among the ranks, or the test above would show nothing."""
    seen = on_ranks[0]["fsdp2 with a sharded teacher inside"]["seen"]
    assert seen["student_part"] == pytest.approx(0.5, abs=0.1)
    assert seen["teacher_part"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_ddp_names_the_option_for_layers_that_are_not_in_the_loss(on_ranks: list[Result]) -> None:
    assert FIND_UNUSED in on_ranks[0]["ddp without the logits"]["error"]


def test_the_fits_differ() -> None:
    """Clipping has an effect, and the last step depends on the features."""
    free, clipped = one_process("layers"), one_process("layers", 1e-4)
    assert largest_difference(free, clipped) > 1e-6
    assert len({tuple(one_process(name)["losses"]) for name in OBJECTIVES}) == len(OBJECTIVES)
