"""Layers are given, spaced evenly, or chosen by importance."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.models import choose_layers, layer_importance, top_units
from kdlight.models.recipes.layer_choice import check_layer_choice, select_layers
from tests.models.pruning.width_models import batch
from tests.models.tiny_models import DEPTH, tiny


def test_lists_and_numbers_are_what_they_were(llama: Any) -> None:
    assert select_layers(llama, [1, 2], []) == [1, 2]
    assert select_layers(llama, 2, []) == choose_layers(2, depth=DEPTH) == [0, 3]
    assert select_layers(llama, {"keep": 2, "by": "even"}, []) == [0, 3]


def test_importance_takes_the_highest_scores() -> None:
    model = tiny("gpt2")
    for parameter in model.parameters():
        parameter.data.mul_(3)
    found = select_layers(model, {"keep": 2, "by": "importance"}, [batch()])
    assert found == top_units(layer_importance(model, [batch()]), 2)


def test_only_importance_is_measured() -> None:
    assert check_layer_choice({"keep": 2, "by": "importance"})
    for each in ({"keep": 2, "by": "even"}, 2, [0, 3], None):
        assert not check_layer_choice(each)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({}, "a mapping of 'keep' and 'by'"),
        ({"keep": 2}, "a mapping of 'keep' and 'by'"),
        ({"keep": 2, "by": "even", "seed": 1}, "a mapping of 'keep' and 'by'"),
        ({"keep": 0, "by": "even"}, r"layers\['keep'\] must be at least 1, got 0"),
        ({"keep": 2, "by": "size"}, r"layers\['by'\] must be one of 'even', 'importance'"),
    ],
    ids=str,
)
def test_other_mappings_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_layer_choice(layers)


def test_a_number_that_is_none() -> None:
    with pytest.raises(TypeError, match=r"layers\['keep'\] must be an integer"):
        check_layer_choice({"keep": "2", "by": "even"})


@pytest.mark.parametrize("rule", ["even", "importance"])
def test_more_layers_than_there_are(llama: Any, rule: str) -> None:
    with pytest.raises(ValueError, match="layers must be 1 to 4 of the 4 layers, got 5"):
        select_layers(llama, {"keep": 5, "by": rule}, [batch()])
