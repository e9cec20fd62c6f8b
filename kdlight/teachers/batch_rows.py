"""Rows of a batch: how many there are, and some of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

FIRST = ("input_ids", "labels", "decoder_input_ids")
"""Entries whose first axis is the rows of a batch, whatever other entries there are."""


def select_batch_rows(batch: Any, rows: Tensor) -> Any:
    """Select ``rows`` ``(n,)`` of every tensor and list in a batch that has one entry a row.

    A tensor with one dimension and another length is no entry of rows, and is kept.

    Raises:
        ValueError: If a tensor has rows, but another number of them, so that it is not known which
            of its entries belong to a row, such as the patches of all images one after the other.

    Example:
        >>> import torch
        >>> select_batch_rows({"x": torch.eye(2), "name": ["a", "b"]}, torch.tensor([1]))
        {'x': tensor([[0., 1.]]), 'name': ['b']}
    """
    count = count_rows(batch)

    def select(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: select(key, each) for key, each in value.items()}
        if isinstance(value, list) and len(value) == count:
            return [value[int(row)] for row in rows]
        if not isinstance(value, Tensor) or not value.dim():
            return value
        axis = 1 if name == "position_ids" and value.dim() == 3 else 0  # (3, B, T)
        if value.shape[axis] == count:
            return value.index_select(axis, rows.to(value.device))
        if value.dim() == 1 or len(value) == 1:  # for all rows alike
            return value
        raise ValueError(
            f"entry {name!r} of the batch has the shape {tuple(value.shape)}, but there are"
            f" {count} rows: it is not known which part of it belongs to which row, so some rows"
            " alone cannot be given to a teacher; query a teacher about all rows of such batches"
        )

    if isinstance(batch, Mapping):
        return {name: select(name, value) for name, value in batch.items()}
    if isinstance(batch, Tensor):
        return select("batch", batch)
    return [select(str(number), value) for number, value in enumerate(batch)]


def select_labels(labels: Tensor | None, rows: Tensor) -> Tensor | None:
    """Select ``rows`` ``(n,)`` of aligned labels, ``(B, ...) -> (n, ...)``, if there are any.

    Example:
        >>> import torch
        >>> select_labels(torch.tensor([7, 8, 9]), torch.tensor([2, 0]))
        tensor([9, 7])
    """
    return None if labels is None else labels.index_select(0, rows.to(labels.device))


def count_rows(batch: Any) -> int:
    """Return the number of rows of a batch.

    Raises:
        ValueError: If no entry of the batch has rows.

    Example:
        >>> import torch
        >>> count_rows({"pixel_values": torch.zeros(8, 4), "input_ids": torch.zeros(2, 3)})
        2
    """
    if isinstance(batch, Tensor):
        return len(batch)
    if isinstance(batch, Mapping):
        values = [*(batch.get(name) for name in FIRST), *batch.values()]
    else:
        values = list(batch)
    for value in values:
        if isinstance(value, Tensor) and value.dim():
            return len(value)
    raise ValueError(
        f"the batch has no tensor with rows: a {type(batch).__name__} of {batch!r:.80}"
    )
