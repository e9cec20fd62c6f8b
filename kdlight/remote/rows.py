"""The rows of a batch as sequences of token ids, which is all that a server reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.cache.digests import hash_tensor
from kdlight.cache.row_keys import NOT_INPUT
from kdlight.data.teacher_tokens import PREFIX
from kdlight.losses.labels import IGNORE_INDEX

READ = frozenset({"input_ids", "attention_mask", "position_ids"})
"""Entries that describe tokens, and that a server knows as well."""

OTHER_INPUTS = ("_ids", "seq_idx", "cu_seq_lens_q", "cu_seq_lens_k")
"""How the names of other entries end that models read."""


class TokenRow(NamedTuple):
    """The tokens of one row of a batch.

    Attributes:
        key: hash of the tokens.
        tokens: their ids, without padding.
        start: the position of the first one in the batch.
    """

    key: bytes
    tokens: list[int]
    start: int


def token_rows(batch: Any) -> dict[int, TokenRow]:
    """Return the rows of a batch that have a label that counts, by number.

    Padding, where ``attention_mask`` is 0 at the ends of a row, is left out. Without a mask, the
    tokens up to the last label that counts are read.

    Raises:
        TypeError: the batch is no mapping with ``input_ids``.
        ValueError: the batch has inputs that a server does not read, a mask with holes, or
            positions that do not count the tokens of a row from 0.

    Example:
        >>> ids = torch.tensor([[5, 6, 0], [7, 8, 9]])
        >>> mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
        >>> rows = token_rows({"input_ids": ids, "attention_mask": mask})
        >>> [row.tokens for row in rows.values()]
        [[5, 6], [7, 8, 9]]
    """
    if not isinstance(batch, Mapping) or not isinstance(batch.get("input_ids"), Tensor):
        raise TypeError(
            "a served teacher reads token ids: a batch must be a mapping with the tensor"
            f" 'input_ids', got {type(batch).__name__}"
        )
    _check_inputs(batch)
    ids = batch["input_ids"].detach().cpu()
    if ids.dim() != 2:
        raise ValueError(f"input_ids must have the shape (B, T), got {tuple(ids.shape)}")
    mask = batch.get("attention_mask")
    _check_positions(batch.get("position_ids"), mask)
    rows = {}
    for number, inside in enumerate(_spans(ids, mask, batch.get("labels"))):
        if inside.stop <= inside.start:
            continue
        if mask is not None and not bool((mask[number, inside] != 0).all()):
            raise ValueError(
                f"the attention_mask of row {number} has zeros between its tokens, which a server"
                " cannot be told; give each document a row of its own, padded at an end"
            )
        tokens = ids[number, inside].long()
        rows[number] = TokenRow(hash_tensor(tokens), tokens.tolist(), inside.start)
    return rows


def _spans(ids: Tensor, mask: Any, labels: Any) -> list[slice]:
    """Return the part of each row that a server reads; an empty one where no label counts."""
    counted = torch.ones_like(ids, dtype=torch.bool)
    if isinstance(labels, Tensor) and labels.shape == ids.shape:
        counted = labels.detach().cpu() != IGNORE_INDEX
    # labels stand at their own tokens, or at those that predict them: in both cases a server reads
    # the tokens up to the last one
    kept = counted if mask is None else mask.detach().cpu() != 0
    spans = []
    for row, labeled in zip(kept, counted, strict=True):
        inside = row.nonzero().flatten()
        if not len(inside) or not bool(labeled.any()):
            spans.append(slice(0, 0))
            continue
        start = 0 if mask is None else int(inside[0])
        spans.append(slice(start, int(inside[-1]) + 1))
    return spans


def _check_inputs(batch: Mapping[str, Any]) -> None:
    others = {
        str(name)
        for name, value in batch.items()
        if isinstance(value, Tensor) and value.dim() and not str(name).startswith(PREFIX)
    }
    # what is no input of a model, such as an index or weights of teachers, has at most two axes
    unread = sorted(
        name
        for name in others - READ - NOT_INPUT
        if (batch[name].is_floating_point() and batch[name].dim() > 2)
        or (name.endswith(OTHER_INPUTS) and bool(batch[name].any()))
    )
    if unread:
        raise ValueError(
            f"a served teacher reads token ids only, but the batch has {unread} as well; use a live"
            " or a cached teacher for such data"
        )


def _check_positions(positions: Any, mask: Any) -> None:
    if not isinstance(positions, Tensor):
        return
    if mask is not None:
        positions = positions.expand(mask.shape)
    if mask is None:
        expected = torch.arange(positions.shape[-1], device=positions.device)
        is_count = bool((positions == expected).all())
    else:
        kept = mask != 0
        is_count = bool((positions[kept] == (kept.long().cumsum(-1) - 1)[kept]).all())
    if not is_count:
        raise ValueError(
            "position_ids do not count the tokens of each row from 0, as in rows of several"
            " documents; a server cannot be told where a document begins, so give each a row of its"
            " own, padded at an end"
        )
