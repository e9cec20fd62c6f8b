"""Rows of a batch: how many there are, and some of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def select_batch_rows(batch: Any, rows: Tensor) -> Any:
    """Select ``rows`` ``(n,)`` of every tensor and list in a batch that has one entry a row."""
    count = count_rows(batch)

    def select(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() and len(value) == count:
            return value.index_select(0, rows.to(value.device))
        if isinstance(value, list) and len(value) == count:
            return [value[int(row)] for row in rows]
        return value

    if isinstance(batch, Mapping):
        return {name: select(value) for name, value in batch.items()}
    return select(batch) if isinstance(batch, Tensor) else [select(value) for value in batch]


def count_rows(batch: Any) -> int:
    """Return the number of rows of a batch."""
    if isinstance(batch, Tensor):
        return len(batch)
    values = batch.values() if isinstance(batch, Mapping) else batch
    return next(len(value) for value in values if isinstance(value, Tensor) and value.dim())
