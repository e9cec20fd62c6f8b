"""Changes that are merged into the hyper-parameters of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_changes(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the values of ``changes``; mappings in both are merged.

    Args:
        config: a config; it is not changed.
        changes: values by the same names. A mapping of them changes nothing where ``config`` has no
            mapping of that name.

    Example:
        >>> student = {"class_path": "PrunedCausalLM", "init_args": {"layers": 4, "data": 1}}
        >>> merge_changes({"student": student}, {"student": {"init_args": {"data": None}}})
        {'student': {'class_path': 'PrunedCausalLM', 'init_args': {'layers': 4, 'data': None}}}
    """
    merged = dict(config)
    for name, value in changes.items():
        known = merged.get(name)
        if not isinstance(value, Mapping):
            merged[name] = value
        elif isinstance(known, Mapping):
            merged[name] = merge_changes(known, value)
    return merged
