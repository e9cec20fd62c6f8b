"""Sizes that do not fit are refused by the name of the argument."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import WidthImportance, prune_width
from tests.models.pruning.width_models import decoder


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"heads": 0}, "heads must be 1 to 4, the width of the model, got 0"),
        ({"heads": 6}, "heads must be 1 to 4, the width of the model, got 6"),
        ({"heads": 3}, "heads must be a multiple of 2, since 2 query heads share .* got 3"),
        ({"feed_forward": 0}, "feed_forward must be 1 to 24, .* got 0"),
        ({"feed_forward": 25}, "feed_forward must be 1 to 24, .* got 25"),
        ({"hidden": -2}, "hidden must be 1 to 16, .* got -2"),
        ({"hidden": 18}, "hidden must be 1 to 16, .* got 18"),
        ({"hidden": 15}, "hidden must be even, .* got 15"),
    ],
)
def test_sizes_outside_their_range(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune_width(decoder("llama"), **sizes, importance="first")


@pytest.mark.parametrize("name", ["heads", "feed_forward", "hidden"])
@pytest.mark.parametrize("size", [2.0, True, "2", [2]], ids=str)
def test_sizes_that_are_no_integers(name: str, size: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer"):
        prune_width(decoder("llama"), **{name: size}, importance="first")


@pytest.mark.parametrize("importance", [None, "last", torch.ones(3)], ids=str)
def test_an_importance_of_another_kind(importance: Any) -> None:
    with pytest.raises(TypeError, match="importance must be what width_importance returns"):
        prune_width(decoder("llama"), heads=2, importance=importance)


@pytest.mark.parametrize("name", WidthImportance._fields)
def test_an_importance_of_another_model(name: str) -> None:
    scores = WidthImportance(torch.rand(3, 2), torch.rand(3, 24), torch.rand(16))
    wrong = scores._replace(**{name: torch.rand(5)})
    with pytest.raises(ValueError, match=rf"importance.{name} must have shape .* got \(5,\)"):
        prune_width(decoder("llama"), heads=2, importance=wrong)
