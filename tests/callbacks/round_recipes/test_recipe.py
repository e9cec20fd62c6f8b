"""The settings of a recipe tell all that decides what it makes."""

from __future__ import annotations

import json
from functools import partial

from kdlight.callbacks import BudgetedRound, CompetitiveRound, SelfImitationRound
from kdlight.callbacks.round_recipes.recipe import describe
from kdlight.data.traces import number
from kdlight.data.traces.sums import SimilarSums, solve_sums


def test_settings_differ_with_any_argument() -> None:
    recipes = [
        SelfImitationRound("number"),
        SelfImitationRound("exact"),
        SelfImitationRound("number", threshold=0.5),
        SelfImitationRound("number", samples=2),
        BudgetedRound("number", total=5),
        BudgetedRound("number", total=6),
        CompetitiveRound(solve_sums, "number", SimilarSums(1)),
        CompetitiveRound(solve_sums, "number", SimilarSums(2)),
        CompetitiveRound(None, "number", SimilarSums(2)),
    ]
    texts = [json.dumps(recipe.settings()) for recipe in recipes]
    assert len(set(texts)) == len(recipes)
    assert texts == [json.dumps(recipe.settings()) for recipe in recipes]


def test_functions_and_objects_are_described_by_what_they_are() -> None:
    assert describe(number) == "kdlight.data.traces.verification.verifiers.number"
    assert describe(SimilarSums(3)) == {"SimilarSums": {"per_prompt": 3}}
    assert describe(None) is None


class Holder:
    """A critic that holds something, and itself."""

    def __init__(self, held: object) -> None:
        self.held, self.own = held, self


def test_what_is_held_in_containers_counts_and_cycles_end() -> None:
    held = [["a"], ["b"], {"a": 1}, {"a": 2}, partial(max, 1), partial(max, 2), ("a", "b")]
    texts = [json.dumps(describe(Holder(each))) for each in held]
    assert len(set(texts)) == len(held)
    assert describe(Holder(1)) == {"Holder": {"held": 1, "own": "Holder"}}
