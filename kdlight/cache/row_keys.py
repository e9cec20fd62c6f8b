"""Keys of the rows of a batch: hashes of all that a teacher reads, the same in any batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdlight.cache.digests import ContentDigest
from kdlight.cache.layout import Layout, decoder_ids
from kdlight.cache.row_entries import DECODER, RowEntries

NOT_INPUT = frozenset({"labels", "teacher_mask", "rejected", "span_ids", "index"})
"""Labels, and what only objectives read."""


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


def keyed_rows(batch: Any, layout: Layout = Layout()) -> list[KeyedRow]:  # noqa: B008
    """Return the rows of a batch with keys; the same row has the same key in any batch.

    A key covers every entry of a batch except labels and what only objectives read: of a tensor
    with one entry per row that entry, of anything else, such as the patches of all images one after
    the other, all of it. Padding is not part of a sequence: positions where ``attention_mask`` is 0
    at its ends are padding; of a causal language model without a mask, all positions after the last
    valid one are. ``position_ids`` that count the tokens of a row from 0 are those that a model has
    without them, and change no key.

    Args:
        batch: a mapping of tensors, a pair ``(x, y)``, or a tensor.
        layout: where the logits stand.

    Raises:
        TypeError: If an entry is neither a tensor, a number, a text, nor a collection of these.

    Example:
        >>> one = {"input_ids": torch.tensor([[5, 6, 0]]), "labels": torch.tensor([[5, 6, -100]])}
        >>> other = {"input_ids": torch.tensor([[5, 6]]), "labels": torch.tensor([[5, 6]])}
        >>> keyed_rows(one)[0].key == keyed_rows(other)[0].key
        True
        >>> images = torch.zeros(1, 3, 2, 2)
        >>> keyed_rows({**one, "pixel_values": images})[0].key == keyed_rows(one)[0].key
        False
    """
    read, valid = layout.view(batch), layout.valid_positions(batch)
    ids = read.get("input_ids") if isinstance(read, Mapping) else None
    if isinstance(ids, Tensor) and ids.dim() == 2:
        return _token_rows(read, ids.detach().cpu(), valid, layout)
    entries = _inputs(read)
    count = _count(entries, valid)
    if layout.place == "decoder":
        return _decoder_rows(read, entries, count, valid)
    rows = RowEntries(entries, count=count)
    stop = layout.shape(batch, count)[1:].numel()
    return [
        KeyedRow(None, 0, 0) if _is_ignored(valid, number) else KeyedRow(rows.key(number), 0, stop)
        for number in range(count)
    ]


def _inputs(batch: Any) -> dict[str, Any]:
    """Return the entries that a teacher may read, by name; of a pair ``(x, y)`` all but labels."""
    if isinstance(batch, Mapping):
        return {str(name): each for name, each in batch.items() if name not in NOT_INPUT}
    if not isinstance(batch, (tuple, list)):
        return {"0": batch}
    return {str(i): each for i, each in enumerate(batch) if i != 1 or _is_float(each)}


def _count(entries: Mapping[str, Any], valid: Tensor | None) -> int:
    if valid is not None and valid.dim():
        return len(valid)
    tensors = [each for each in entries.values() if isinstance(each, Tensor) and each.dim()]
    return len(tensors[0]) if tensors else 0


def _decoder_rows(
    batch: Any, entries: Mapping[str, Any], count: int, valid: Tensor | None
) -> list[KeyedRow]:
    """Return the rows of an encoder-decoder that reads no tokens, but images or sounds."""
    width = decoder_ids(batch).shape[1]
    others = {name: each for name, each in entries.items() if name != "decoder_input_ids"}
    further, rows = RowEntries(others, count=count, widths={DECODER: width}), []
    for number in range(count):
        if _is_ignored(valid, number):
            rows.append(KeyedRow(None, 0, 0))
            continue
        digest = ContentDigest()
        stop = _add_decoder(digest, batch, number, valid)
        further.add(digest, number, {DECODER: slice(0, stop)})
        rows.append(KeyedRow(digest.key(), 0, stop))
    return rows


def _token_rows(
    batch: Mapping[str, Any], ids: Tensor, valid: Tensor | None, layout: Layout
) -> list[KeyedRow]:
    mask = batch.get("attention_mask")
    mask = mask.detach().cpu() if isinstance(mask, Tensor) and mask.shape == ids.shape else None
    further = _further(batch, ids, mask, layout)
    content = _content(ids, mask, batch, valid, layout)
    rows = []
    for number, row in enumerate(ids):
        inside = content[number].nonzero().flatten()
        if _is_ignored(valid, number) or not len(inside):
            rows.append(KeyedRow(None, 0, 0))
            continue
        span = slice(0 if mask is None else int(inside[0]), int(inside[-1]) + 1)
        if layout.place == "row" and layout.positions:
            span = slice(0, len(row))  # how its positions depend on the padding is not known
        digest, kept = ContentDigest(row[span].long()), None
        if mask is not None and not bool((mask[number, span] == 1).all()):
            kept = mask[number, span]
            digest.add("attention_mask", kept if kept.is_floating_point() else kept.long())
            kept = kept != 0
        start, stop, spans = span.start, span.stop, {"": span}
        if layout.place in ("decoder", "row"):
            if start:  # an encoder may not read the mask for its positions, or read the first token
                digest.add("start", start)
            start, stop = 0, layout.shape(batch, len(ids))[1:].numel()
        if layout.place == "decoder":
            stop = _add_decoder(digest, batch, number, valid)
            spans[DECODER] = slice(0, stop)
        further.add(digest, number, spans, kept)
        rows.append(KeyedRow(digest.key(), start, stop))
    return rows


def _further(
    batch: Mapping[str, Any], ids: Tensor, mask: Tensor | None, layout: Layout
) -> RowEntries:
    """Return the entries besides tokens, their mask, and the tokens of a decoder."""
    names = {"input_ids"} if mask is None else {"input_ids", "attention_mask"}
    widths = {"": ids.shape[1]}
    if layout.place == "decoder":
        names.add("decoder_input_ids")
        widths[DECODER] = decoder_ids(batch).shape[1]
    images = torch.isin(ids, torch.tensor(layout.image_tokens, dtype=ids.dtype)).any(-1)
    entries = {name: each for name, each in _inputs(batch).items() if name not in names}
    # as many images as rows, and no row without: then each has one
    is_divided = not layout.image_tokens or bool(images.all())
    return RowEntries(entries, count=len(ids), widths=widths, is_divided=is_divided)


def _content(
    ids: Tensor,
    mask: Tensor | None,
    batch: Mapping[str, Any],
    valid: Tensor | None,
    layout: Layout,
) -> Tensor:
    """Return where tokens are no padding, ``(B, T)``."""
    if mask is not None:
        return mask.bool()
    is_causal = layout.labels == "causal" and layout.place in ("tokens", "teacher_tokens")
    reads_only_before = is_causal and batch.get("attention_mask") is None
    if reads_only_before and valid is not None and valid.shape == ids.shape:
        return valid
    return torch.ones_like(ids, dtype=torch.bool)


def _add_decoder(
    digest: ContentDigest, batch: Mapping[str, Any], number: int, valid: Tensor | None
) -> int:
    """Add the inputs of a decoder up to its last valid position; return their number."""
    ids = decoder_ids(batch)[number].detach().cpu()
    stop = len(ids)
    if valid is not None and valid.dim() == 2 and valid.shape[1] == stop:
        stop = int(valid[number].nonzero()[-1]) + 1
    digest.add("decoder_input_ids", ids[:stop].long())
    return stop


def _is_ignored(valid: Tensor | None, number: int) -> bool:
    return valid is not None and not bool(valid[number].any())


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
