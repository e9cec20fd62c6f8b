"""What a cached row is found by: the content of a sequence, wherever and whenever it comes up."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.data.targets import IGNORE, batch_labels

KEY_BYTES = 16
NOT_INPUT = ("labels", "teacher_mask", "rejected", "span_ids", "attention_mask")


class Row(NamedTuple):
    """One row of a batch.

    Attributes:
        key: of its content; None where no position of it counts.
        start: the first position that the key covers.
        stop: the one after the last.
    """

    key: bytes | None
    start: int
    stop: int


def rows_of(batch: Any) -> list[Row]:
    """The rows of a batch, so that the same sequence has the same key in any batch.

    Padding does not belong to a sequence: what ``attention_mask`` leaves out is no content, and
    where there is none, what follows the last position that counts. A batch that is no mapping with
    ``input_ids`` is known by its input, row by row: the first of a pair ``(x, y)``, or all tensors
    of a mapping that are not labels.
    """
    if isinstance(batch, Mapping) and isinstance(batch.get("input_ids"), Tensor):
        return _token_rows(batch)
    if isinstance(batch, Mapping):
        inputs = [batch[n] for n in sorted(batch) if n not in NOT_INPUT and _is_tensor(batch[n])]
    else:
        inputs = [batch if isinstance(batch, Tensor) else batch[0]]
    keep = counted(batch)
    columns = [each.detach().cpu() for each in inputs]
    return [
        Row(_key(*parts) if keep is None or bool(keep[number].any()) else None, 0, 1)
        for number, parts in enumerate(zip(*columns, strict=True))
    ]


def counted(batch: Any) -> Tensor | None:
    """Which positions of a batch count, by its labels, on the CPU; None where it has none."""
    try:
        labels = batch_labels(batch)
    except (TypeError, KeyError, IndexError):
        return None
    return (labels != IGNORE).cpu()


def _token_rows(batch: Mapping[str, Any]) -> list[Row]:
    ids = batch["input_ids"].detach().cpu()
    keep, mask = counted(batch), batch.get("attention_mask")
    padded = isinstance(mask, Tensor) and mask.shape == ids.shape
    content = torch.ones_like(ids, dtype=torch.bool)
    if isinstance(mask, Tensor) and padded:
        content = mask.cpu().bool()
    elif keep is not None and keep.shape == ids.shape:
        content = keep
    rows = []
    for number, row in enumerate(ids):
        inside = content[number].nonzero().flatten()
        silent = keep is not None and not keep[number].any()
        if silent or not len(inside):
            rows.append(Row(None, 0, 0))
            continue
        start, stop = (int(inside[0]) if padded else 0), int(inside[-1]) + 1
        rows.append(Row(_key(row[start:stop].long()), start, stop))
    return rows


def _key(*tensors: Tensor) -> bytes:
    digest = blake2b(digest_size=KEY_BYTES)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        # numpy has no bfloat16; bytes are all that is wanted
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0
