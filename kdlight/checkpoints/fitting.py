"""Check that a checkpoint has a known format, and weights that fit a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shapes = dict[str, tuple[int, ...]]
FORMAT = 1  # version of the data that kdlight adds to a checkpoint, under "kdlight"


def shapes(weights: Mapping[str, Any]) -> Shapes:
    """Return names and shapes of a state dict; a value that is not a tensor has the shape ().

    Example:
        >>> import torch
        >>> shapes({"weight": torch.ones(2, 3), "t": 0.4})
        {'weight': (2, 3), 't': ()}
    """
    return {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}


def check_format(checkpoint: Mapping[str, Any]) -> None:
    """Raise a ValueError for a checkpoint in a later format than `FORMAT`.

    Example:
        >>> check_format({"kdlight": {"format": 99, "version": "9.0"}})
        Traceback (most recent call last):
        ValueError: the checkpoint was written by kdlight 9.0 in format 99, ...
    """
    metadata = checkpoint.get("kdlight", {})
    if metadata.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"the checkpoint was written by kdlight {metadata.get('version')} in format"
            f" {metadata['format']}, but this kdlight reads formats up to {FORMAT}; upgrade kdlight"
        )


def check_weights(saved: Shapes, current: Shapes) -> None:
    """Raise a ValueError that names the weights of a checkpoint that do not fit a module.

    Args:
        saved: names and shapes in the checkpoint.
        current: names and shapes of the module.

    Example:
        >>> check_weights({"head": (12, 6)}, {"head": (11, 6)})
        Traceback (most recent call last):
        ValueError: the weights of the checkpoint do not fit this run (another student, ...
          other shapes: head (12, 6) in the checkpoint, (11, 6) in this run
    """
    differences = {
        "only in the checkpoint": [name for name in saved if name not in current],
        "only in this run": [name for name in current if name not in saved],
        "other shapes": [
            f"{name} {saved[name]} in the checkpoint, {current[name]} in this run"
            for name in saved
            if name in current and saved[name] != current[name]
        ],
    }
    lines = [f"  {kind}: {_first_few(names)}" for kind, names in differences.items() if names]
    if lines:
        cause = "another student, objective or vocabulary"
        lines.insert(0, f"the weights of the checkpoint do not fit this run ({cause}):")
        raise ValueError("\n".join(lines))


def _first_few(names: list[str], limit: int = 4) -> str:
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
