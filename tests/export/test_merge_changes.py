"""Changes replace values and are merged into mappings, and nothing else is touched."""

from __future__ import annotations

import copy
from typing import Any

from kdlight.export.merge_changes import merge_changes

CONFIG: dict[str, Any] = {
    "_class_path": "kdlight.DistillationModule",
    "student": {
        "class_path": "kdlight.PrunedCausalLM",
        "init_args": {"layers": {"keep": 2, "by": "importance"}, "data": {"class_path": "Data"}},
    },
}


def test_values_are_replaced_within_mappings() -> None:
    before = copy.deepcopy(CONFIG)
    changes = {"student": {"init_args": {"layers": [0, 3], "data": None}}}
    merged = merge_changes(CONFIG, changes)
    assert merged["student"]["class_path"] == "kdlight.PrunedCausalLM"
    assert merged["student"]["init_args"] == {"layers": [0, 3], "data": None}
    assert merged["_class_path"] == CONFIG["_class_path"]
    assert before == CONFIG


def test_a_mapping_is_merged() -> None:
    config = {"width": {"heads": 2, "hidden": 8}}
    changes = {"width": {"heads": 2, "by": "first"}}
    assert merge_changes(config, changes) == {"width": {"heads": 2, "hidden": 8, "by": "first"}}


def test_a_mapping_without_a_counterpart_changes_nothing() -> None:
    """A module of a user may call its student otherwise."""
    for changes in ({"student": {}}, {"pupil": {"init_args": {"layers": [1]}}}, {}):
        assert merge_changes(CONFIG, changes) == CONFIG
    assert merge_changes({"student": "a"}, {"student": {"init_args": {"x": 1}}}) == {"student": "a"}
