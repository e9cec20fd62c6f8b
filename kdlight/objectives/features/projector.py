"""Projectors of features: from the width of the student to that of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from kdlight.checks import check_instance
from kdlight.features import feature_width
from kdlight.sources import Dense, Projected

Projector: TypeAlias = "Literal['auto', 'linear', 'none'] | Callable[[int, int], nn.Module]"
"""When to project, or a function from both widths to a network."""


def check_projector(projector: Any, sizes: Any) -> None:
    """Raise a ValueError for an unknown projector, or sizes that are no widths.

    Example:
        >>> check_projector("mlp", None)
        Traceback (most recent call last):
        ValueError: projector must be 'auto', 'linear', 'none' or a function ..., got 'mlp'
    """
    if not callable(projector) and projector not in ("auto", "linear", "none"):
        raise ValueError(
            "projector must be 'auto', 'linear', 'none' or a function from the widths of student"
            f" and teacher to a network, got {projector!r}"
        )
    if sizes is not None:
        numbers = tuple(sizes) if isinstance(sizes, Sequence) else ()
        if len(numbers) != 2 or not all(type(n) is int and n > 0 for n in numbers):
            raise ValueError(
                "sizes must be the widths of student and teacher, two integers above 0, got"
                f" {sizes!r}"
            )


def make_projector(
    projector: Projector,
    sizes: tuple[int, int] | None,
    student: nn.Module,
    teacher: nn.Module,
    paths: tuple[str, str],
) -> nn.Module:
    """Return the projector of a pair of features, an `torch.nn.Identity` if it needs none.

    Raises:
        ValueError: a projector is wanted, and the width of a feature is unknown.
        TypeError: the function ``projector`` returned no network.

    Example:
        >>> one, two = nn.Linear(2, 3), nn.Linear(2, 5)
        >>> make_projector("auto", None, one, two, ("", ""))
        Linear(in_features=3, out_features=5, bias=False)
    """
    if projector == "none":
        return nn.Identity()
    if sizes is None:
        found = feature_width(student, paths[0]), feature_width(teacher, paths[1])
        unknown = [path for path, width in zip(paths, found, strict=True) if width is None]
        if unknown:
            raise ValueError(
                f"the width of the feature {unknown[0]!r} cannot be told from its module; pass"
                " sizes=(width of the student's, width of the teacher's), or projector='none' if"
                " they are equal"
            )
        sizes = found  # type: ignore[assignment]
    ours, theirs = sizes  # type: ignore[misc]
    if callable(projector):
        made = projector(ours, theirs)
        check_instance("the result of projector", made, nn.Module)
        return made
    if projector == "auto" and ours == theirs:
        return nn.Identity()
    return nn.Linear(ours, theirs, bias=False)


def projected(projector: nn.Module, feature: Tensor, path: str) -> Dense | Projected:
    """Return a feature with its channels on the last axis as a source of projected rows.

    A feature of another dtype than that of the projector is converted, unless autocast does so.

    Raises:
        ValueError: the projector was made for another width.

    Example:
        >>> projected(nn.Linear(2, 3), torch.zeros(4, 2, dtype=torch.bfloat16), "a").logits().dtype
        torch.float32
    """
    if isinstance(projector, nn.Identity):
        return Dense(feature)
    width = getattr(projector, "in_features", feature.shape[-1])
    if width != feature.shape[-1]:
        raise ValueError(
            f"the projector of {path!r} was made for {width} channels, but the feature has"
            f" {feature.shape[-1]}; pass sizes=({feature.shape[-1]}, width of the teacher's)"
        )
    weight = next(projector.parameters(), None)
    if weight is not None and not torch.is_autocast_enabled(feature.device.type):
        feature = feature.to(weight.dtype)
    is_linear = isinstance(projector, nn.Linear)
    return Projected(feature, projector) if is_linear else Dense(projector(feature))
