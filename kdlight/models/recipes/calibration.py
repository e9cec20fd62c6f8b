"""The batches that a recipe measures its teacher on."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from kdlight.checks import check_integer
from kdlight.models.pruning.random_state import kept_random_state

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

BATCHES = 4
"""Number of batches by default."""

SEED = 0
"""Seed of the order of the data, so that all ranks and a resumed run measure the same."""


def calibration_batches(
    data: LightningDataModule | Iterable[Any] | None, count: int | None, *, wanted_by: str
) -> list[Mapping[str, Any]]:
    """Return the first training batches, the same on every rank and in a resumed run.

    The random state of the run is not changed, and neither is ``data``: a copy of a data module is
    set up, which belongs to no Trainer, so that every rank reads all of the data.

    Args:
        data: a data module, or an iterable of batches, of which the first are taken.
        count: number of batches, or all if there are less; None for 4.
        wanted_by: what is measured, for the message without data.

    Raises:
        ValueError: If there are no data, or no batch.
        TypeError: If ``data`` holds something else than batches that are mappings.

    Example:
        >>> data = [{"input_ids": number} for number in range(9)]
        >>> calibration_batches(data, 2, wanted_by="layers")
        [{'input_ids': 0}, {'input_ids': 1}]
    """
    check_data(data, wanted_by=wanted_by)
    count = check_batches(count)
    with kept_random_state(SEED):
        batches = list(islice(_training_batches(data), count))
    if not batches:
        raise ValueError(f"data must give at least one batch to measure on, got none from {data!r}")
    other = next((each for each in batches if not isinstance(each, Mapping)), None)
    if other is not None:
        raise TypeError(
            "data must give batches that are mappings with the inputs of the model, such as"
            f" {{'input_ids': ...}}, got a {type(other).__name__}"
        )
    return batches


def check_batches(count: Any) -> int:
    """Return the number of batches to measure on, 4 for None.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is below 1.

    Example:
        >>> check_batches(None)
        4
    """
    if count is None:
        return BATCHES
    check_integer("batches", count, 1)
    return int(count)


def check_data(data: Any, *, wanted_by: str) -> None:
    """Raise an error without data to measure on.

    Raises:
        ValueError: If ``data`` is None.
        TypeError: If it is neither a data module nor an iterable of batches.

    Example:
        >>> check_data(None, wanted_by="layers={'keep': 10, 'by': 'importance'}")
        Traceback (most recent call last):
        ValueError: layers={'keep': 10, 'by': 'importance'} is measured on training data, ...
    """
    if data is None:
        raise ValueError(
            f"{wanted_by} is measured on training data, but data is None; set data to a data module"
            " or to batches, in a config to the data of the run: data: ${data}"
        )
    is_iterable = isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping))
    if not hasattr(data, "train_dataloader") and not is_iterable:
        raise TypeError(
            "data must be a LightningDataModule or an iterable of batches, got a"
            f" {type(data).__name__}"
        )


def _training_batches(data: Any) -> Iterable[Any]:
    if not hasattr(data, "train_dataloader"):
        yield from data
        return
    trainer = getattr(data, "trainer", None)
    copied = copy.deepcopy(data, {id(trainer): None})
    copied.prepare_data()
    copied.setup("fit")
    try:
        yield from copied.train_dataloader()
    finally:
        copied.teardown("fit")
