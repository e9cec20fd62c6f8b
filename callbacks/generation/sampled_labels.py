"""Labels that must be tokens drawn from the student, as `SampledReverseKL` reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from kdlight.callbacks.generation.rows import Row
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.objectives import SampledReverseKL


def reads_sampled_labels(module: nn.Module) -> list[SampledReverseKL]:
    """Return the objectives of a module whose labels must be tokens drawn from the student.

    Example:
        >>> from kdlight.objectives import Weighted
        >>> len(reads_sampled_labels(Weighted({"kd": SampledReverseKL()})))
        1
    """
    return [each for each in module.modules() if isinstance(each, SampledReverseKL)]


def check_sampled_labels(callback: Any, module: nn.Module, *, revised: bool) -> None:
    """Raise an error where an objective reads sampled tokens and gets others.

    Args:
        callback: a `kdlight.callbacks.OnPolicy`.
        module: the module of the run.
        revised: whether the callback changes the text that the student generates.

    Raises:
        ValueError: Some labels are not drawn from the student, or not as it is.
    """
    sampling, engine = callback.sampling, callback.engine
    if reads_sampled_labels(module):
        for wrong, got in (
            (revised, "text that is changed after it was drawn; use kdlight.callbacks.OnPolicy"),
            (callback.fraction != 1, f"fraction={callback.fraction}; set fraction to 1"),
            (
                callback.refresh_every != 1,
                f"refresh_every={callback.refresh_every}, text of an older student; set"
                " refresh_every to 1",
            ),
            (
                getattr(engine, "sync_every", 1) != 1,
                f"an engine with sync_every={getattr(engine, 'sync_every', 1)}, text of an older"
                " student; set sync_every to 1",
            ),
            (sampling.top_p != 1, f"top_p={sampling.top_p}; set top_p of sampling to 1"),
        ):
            if wrong:
                raise _not_sampled(callback, got)
    check_temperatures(callback, module)


def check_temperatures(callback: Any, module: nn.Module) -> None:
    """Raise an error where tokens are drawn at another temperature than that of an objective.

    Args:
        callback: a `kdlight.callbacks.OnPolicy`.
        module: the module of the run, whose objective may have another temperature by now.

    Raises:
        ValueError: The temperatures differ.
    """
    temperature = callback.sampling.temperature
    for objective in reads_sampled_labels(module):
        if temperature != objective.temperature:
            raise _not_sampled(
                callback,
                f"a temperature of {temperature}, and its own is {objective.temperature}; set both"
                " to one value, which no schedule changes",
            )


def _not_sampled(callback: Any, got: str) -> ValueError:
    return ValueError(
        "SampledReverseKL reads labels as tokens drawn from the student as it is, but"
        f" {type(callback).__name__} has {got}, or use kdlight.objectives.ReverseKL"
    )


def only_sampled(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with all labels -100 where no response was generated.

    Example:
        >>> ids = torch.tensor([3, 4])
        >>> only_sampled([Row(ids, ids, prompt=0, limit=2)])[0].labels
        tensor([-100, -100])
    """
    return [
        row if row.prompt else replace(row, labels=torch.full_like(row.labels, IGNORE_INDEX))
        for row in rows
    ]
