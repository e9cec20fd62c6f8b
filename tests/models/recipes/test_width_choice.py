"""The mapping of widths is checked before any model is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.models.recipes.width_choice import check_width_choice, width_sizes


def test_only_importance_is_measured() -> None:
    assert check_width_choice({"heads": 2})
    assert check_width_choice({"hidden": 8, "by": "importance"})
    assert not check_width_choice({"hidden": 8, "by": "first"})
    assert not check_width_choice(None)


def test_sizes_that_are_none_are_kept() -> None:
    width = {"heads": None, "feed_forward": 6, "hidden": None, "by": "first"}
    assert width_sizes(width) == {"feed_forward": 6}


@pytest.mark.parametrize(
    ("width", "message"),
    [
        ({}, "width must have sizes from heads, feed_forward, hidden"),
        ({"by": "first"}, "width must have sizes from"),
        ({"heads": None}, "width must have sizes from"),
        ({"neurons": 3}, "width must have sizes from"),
        ({"heads": 2, "neurons": 3}, "width must have sizes from"),
        ({"heads": 0}, r"width\['heads'\] must be at least 1, got 0"),
        ({"heads": 2, "by": "last"}, r"width\['by'\] must be one of 'importance', 'first'"),
    ],
    ids=str,
)
def test_other_mappings_are_refused(width: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_width_choice(width)


@pytest.mark.parametrize("width", [0.5, [2, 3], "small"], ids=str)
def test_what_is_no_mapping_is_refused(width: Any) -> None:
    with pytest.raises(TypeError, match="width must be a mapping of sizes"):
        check_width_choice(width)


def test_sizes_that_are_no_integers() -> None:
    with pytest.raises(TypeError, match=r"width\['hidden'\] must be an integer"):
        check_width_choice({"hidden": 8.0})
