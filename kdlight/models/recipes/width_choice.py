"""The widths that a recipe prunes its teacher to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdlight.checks import check_choice, check_integer

SIZES = ("heads", "feed_forward", "hidden")
RULES = ("importance", "first")


def check_width_choice(width: Any) -> bool:
    """Return whether the units are chosen by what is measured; check ``width`` as far as it can be.

    Args:
        width: a mapping of sizes to keep, ``heads``, ``feed_forward`` and ``hidden``, and
            optionally ``by``: ``"importance"``, the default, or ``"first"``, the first units
            without measuring, for a student whose weights are loaded afterwards. None for no
            pruning in width.

    Raises:
        TypeError: If it is no mapping, or a size is no integer.
        ValueError: If it has other keys, no size, or another rule.

    Example:
        >>> check_width_choice({"heads": 6, "feed_forward": 768})
        True
    """
    if width is None:
        return False
    form = "such as {'heads': 6, 'feed_forward': 768, 'hidden': 384}"
    if not isinstance(width, Mapping):
        raise TypeError(f"width must be a mapping of sizes, {form}, got {width!r}")
    sizes = width_sizes(width)
    if set(width) - {*SIZES, "by"} or not sizes:
        raise ValueError(
            f"width must have sizes from {', '.join(SIZES)}, and may have 'by', {form}, got"
            f" {dict(width)}"
        )
    for name, size in sizes.items():
        check_integer(f"width[{name!r}]", size, 1)
    rule = width.get("by", "importance")
    check_choice("width['by']", rule, RULES)
    return rule == "importance"


def width_sizes(width: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes that are to be changed.

    Example:
        >>> width_sizes({"heads": 6, "hidden": None, "by": "first"})
        {'heads': 6}
    """
    return {name: width[name] for name in SIZES if width.get(name) is not None}
