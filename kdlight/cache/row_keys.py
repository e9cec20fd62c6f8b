"""Keys of the rows of a batch: hashes of their content, the same in any batch."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.data.targets import batch_labels
from kdlight.losses.labels import IGNORE_INDEX

KEY_BYTES = 16
NOT_INPUT = ("labels", "teacher_mask", "rejected", "span_ids", "attention_mask")


class KeyedRow(NamedTuple):
    """The key of one row of a batch.

    Attributes:
        key: hash of the content; None if no position of the row is valid.
        start: the first position that the key covers.
        stop: the position after the last one.
    """

    key: bytes | None
    start: int
    stop: int


def keyed_rows(batch: Any) -> list[KeyedRow]:
    """Return the rows of a batch with keys; the same sequence has the same key in any batch.

    Padding is not part of a sequence. Positions where ``attention_mask`` is 0 are padding; without
    a mask, all positions after the last valid one are. In a batch that is not a mapping with
    ``input_ids``, the content of a row is its input: the row of x in a pair ``(x, y)``, or of all
    tensors of a mapping except labels and masks.
    """
    if isinstance(batch, Mapping) and isinstance(batch.get("input_ids"), Tensor):
        return _token_rows(batch)
    if isinstance(batch, Mapping):
        inputs = [batch[n] for n in sorted(batch) if n not in NOT_INPUT and _has_rows(batch[n])]
    else:
        inputs = [batch if isinstance(batch, Tensor) else batch[0]]
    valid = valid_positions(batch)
    columns = [each.detach().cpu() for each in inputs]
    return [
        KeyedRow(_hash(*parts) if valid is None or bool(valid[number].any()) else None, 0, 1)
        for number, parts in enumerate(zip(*columns, strict=True))
    ]


def valid_positions(batch: Any) -> Tensor | None:
    """Return the mask of positions with a label, on the CPU; None if the batch has no labels."""
    try:
        labels = batch_labels(batch)
    except (TypeError, KeyError, IndexError):
        return None
    return (labels != IGNORE_INDEX).cpu()


def _token_rows(batch: Mapping[str, Any]) -> list[KeyedRow]:
    ids = batch["input_ids"].detach().cpu()
    valid, mask = valid_positions(batch), batch.get("attention_mask")
    has_mask = isinstance(mask, Tensor) and mask.shape == ids.shape
    content = torch.ones_like(ids, dtype=torch.bool)
    if isinstance(mask, Tensor) and has_mask:
        content = mask.cpu().bool()
    elif valid is not None and valid.shape == ids.shape:
        content = valid
    rows = []
    for number, row in enumerate(ids):
        positions = content[number].nonzero().flatten()
        is_ignored = valid is not None and not valid[number].any()
        if is_ignored or not len(positions):
            rows.append(KeyedRow(None, 0, 0))
            continue
        start, stop = (int(positions[0]) if has_mask else 0), int(positions[-1]) + 1
        rows.append(KeyedRow(_hash(row[start:stop].long()), start, stop))
    return rows


def _hash(*tensors: Tensor) -> bytes:
    digest = blake2b(digest_size=KEY_BYTES)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        # as bytes, since numpy has no bfloat16
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _has_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0
