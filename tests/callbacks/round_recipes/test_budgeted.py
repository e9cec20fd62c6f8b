"""A budget of answers is spent where the probe finds gradients and right answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdlight.callbacks import BudgetedRound
from kdlight.callbacks.round_recipes.pool import from_json
from kdlight.data.traces import Trace, allocate_budget, number
from kdlight.distributed import FSDP2Strategy
from kdlight.models import Sampling
from tests.support import tiny_lm
from tests.support.round_work import learned, work

__all__ = ["learned"]  # the fixture

PROMPTS = [Trace(f"{i}", "", prompt_id=f"{i}") for i in range(3)]


def probe(rates: list[int], norms: list[float]) -> list[Trace]:
    """Four answers to each prompt, of which some are right."""
    return [
        replace(prompt, score=float(i < right), meta={"gradient_norm": norm})
        for prompt, right, norm in zip(PROMPTS, rates, norms, strict=True)
        for i in range(4)
    ]


def test_the_budget_is_that_of_allocate_budget() -> None:
    recipe = BudgetedRound("number", total=30, probe=4)
    counts = recipe.allocate(PROMPTS, probe([4, 1, 0], [1.0, 2.0, 5.0]))
    expected = allocate_budget({"0": 1.0, "1": 2.0, "2": 0.0}, {"0": 1.0, "1": 0.25, "2": 0.0}, 30)
    assert counts == [expected["0"], expected["1"], 0]
    assert sum(counts) == 30
    assert recipe.allocate(PROMPTS, probe([0, 0, 0], [1.0, 2.0, 5.0])) == [0, 0, 0]


def test_the_answers_of_the_budget_are_added_and_those_of_the_probe_are_not(learned: Any) -> None:
    one = work(learned)
    recipe = BudgetedRound("number", total=120, probe=3)
    made = recipe.run(one)
    tried = [from_json(line) for line in (one.folder / "probe.jsonl").read_text().splitlines()]
    said = [from_json(line) for line in (one.folder / "student.jsonl").read_text().splitlines()]
    assert len(tried) == 3 * len(one.prompts)
    assert len(said) == 120
    counts = recipe.allocate(one.prompts, tried)
    for prompt, expected in zip(one.prompts, counts, strict=True):
        assert sum(each.prompt_id == prompt.prompt_id for each in said) == expected
    assert len(made) == sum((each.score or 0.0) >= 0.9 for each in said) > 0
    assert all(number(trace) for trace in made)
    assert all(each.meta["gradient_norm"] > 0 for each in tried)
    assert one.figures["accepted"] == len(made) / 120


def test_without_a_right_answer_nothing_is_spent(learned: Any) -> None:
    one = work(learned)
    assert BudgetedRound(lambda trace: 0.0, total=50, probe=1).run(one) == []
    assert one.outcome.endswith("and 0 of the 0 answers of the budget")


def test_students_without_a_plain_head_are_refused(learned: Any) -> None:
    recipe, sampling = BudgetedRound("number", total=5), Sampling(max_new_tokens=4)
    recipe.check(learned.trainer, learned.module, sampling)
    greedy = Sampling(temperature=0.0, max_new_tokens=4)
    with pytest.raises(ValueError, match="probe is 8, but with sampling.temperature 0"):
        recipe.check(learned.trainer, learned.module, greedy)
    sharded: Any = SimpleNamespace(strategy=FSDP2Strategy())
    with pytest.raises(ValueError, match="FSDP2Strategy shards it; use DDP"):
        recipe.check(sharded, learned.module, sampling)
    learned.module.student = tiny_lm.model()  # gives logits, and does not tell its hidden states
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="those of LlamaForCausalLM are not"):
        recipe.check(learned.trainer, learned.module, sampling)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"total": 0}, ValueError, "total must be at least 1, got 0"),
        ({"total": 1.5}, TypeError, "total must be an integer"),
        ({"probe": 0}, ValueError, "probe must be at least 1, got 0"),
        ({"threshold": None}, TypeError, "threshold"),
        ({"critic": "no such"}, ValueError, "no verifier 'no such'"),
    ],
    ids=["total", "fraction", "probe", "threshold", "critic"],
)
def test_arguments_are_checked(options: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        BudgetedRound(**{"critic": "number", "total": 9, **options})
