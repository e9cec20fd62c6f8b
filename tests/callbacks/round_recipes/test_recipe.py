"""The settings of a recipe tell all that decides what it makes."""

from __future__ import annotations

import json

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
