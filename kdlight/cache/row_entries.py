"""The entries of a batch, divided among its rows as far as their shapes tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.cache.digests import ContentDigest, hash_tensor

DECODER = "decoder_"
"""Prefix of the entries of a decoder, whose width is another than that of ``input_ids``."""


class RowEntries:
    """The entries of a batch besides its tokens, of which each row has some.

    A tensor with one entry per row belongs to the rows, and so does a list. Everything else belongs
    to all rows: flattened patches of all images, numbers, texts. Where patches are flattened, or a
    row has more images than another, it is not known which image belongs to which row, and all of
    them belong to all.

    Args:
        entries: values by name.
        count: the number of rows.
        widths: the number of tokens of a row, by the prefix of the names: of ``""`` and of
            ``"decoder_"``.
        is_divided: whether each row has as many images as every other one.

    Example:
        >>> rows = RowEntries({"x": torch.eye(2), "name": ["a", "b"]}, count=2)
        >>> rows.key(0) == rows.key(1)
        False
    """

    def __init__(
        self,
        entries: Mapping[str, Any],
        *,
        count: int,
        widths: Mapping[str, int] | None = None,
        is_divided: bool = True,
    ) -> None:
        self.count = count
        self._widths = widths or {}
        self._entries = {n: _on_cpu(v) for n, v in sorted(entries.items())}
        loose = (self._is_loose(name, value) for name, value in self._entries.items())
        self._is_divided = is_divided and not any(loose)

    def key(self, number: int) -> bytes:
        """Return the key of a row; of one tensor alone it is the hash of the row."""
        parts = list(self._entries.values())
        one = parts[0] if len(parts) == 1 else None
        if isinstance(one, Tensor) and one.dim() and len(one) == self.count:
            return hash_tensor(one[number])
        digest = ContentDigest()
        self.add(digest, number)
        return digest.key()

    def add(
        self,
        digest: ContentDigest,
        number: int,
        spans: Mapping[str, slice] | None = None,
        kept: Tensor | None = None,
    ) -> None:
        """Add what row ``number`` has to ``digest``.

        Args:
            digest: what to add to.
            number: the row.
            spans: the part of the row that is no padding, by the prefix of the names.
            kept: the mask of that part, ``(n,)``; None if all of it counts.
        """
        for name, value in self._entries.items():
            part = self._of_row(name, value, number, spans or {})
            if name != "position_ids" or not _is_count(part, kept):
                digest.add(name, part)

    def _of_row(self, name: str, value: Any, number: int, spans: Mapping[str, slice]) -> Any:
        if isinstance(value, Mapping):
            return {key: self._of_row(key, each, number, spans) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return value[number] if len(value) == self.count else value
        if not isinstance(value, Tensor) or not value.dim():
            return value
        prefix = self._prefix(name)
        span = spans.get(prefix, slice(None))
        if name == "position_ids" and value.dim() == 3:  # positions in several dimensions
            return value[:, number, span] if value.shape[1] == self.count else value
        if self._is_of_tokens(name, value):
            return value[number if len(value) == self.count else 0, span]
        is_whole = self._is_image(name, value) and not self._is_divided
        return value if is_whole or len(value) != self.count else value[number]

    def _prefix(self, name: str) -> str:
        return DECODER if name.startswith(DECODER) and DECODER in self._widths else ""

    def _is_of_tokens(self, name: str, value: Tensor) -> bool:
        """Return whether a tensor has one entry per token, ``(B, T)``, or one row for all."""
        # by name, since images may have as many channels as a row has tokens
        has_name = name.endswith(("_ids", "_mask")) and value.dim() == 2
        has_name = has_name or (name.endswith("inputs_embeds") and value.dim() == 3)
        width = self._widths.get(self._prefix(name))
        return has_name and value.shape[:2] in ((self.count, width), (1, width))

    def _is_image(self, name: str, value: Tensor) -> bool:
        """Return whether a tensor may have any number of entries per row."""
        is_other = name not in ("attention_mask", "position_ids")
        return value.dim() > 1 and is_other and not self._is_of_tokens(name, value)

    def _is_loose(self, name: str, value: Any) -> bool:
        """Return whether a value belongs to rows, but its shape does not tell to which."""
        if isinstance(value, Mapping):
            return any(self._is_loose(key, each) for key, each in value.items())
        is_tensor = isinstance(value, Tensor) and self._is_image(name, value)
        return is_tensor and len(value) != self.count


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _on_cpu(each) for name, each in value.items()}
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _is_count(positions: Any, kept: Tensor | None) -> bool:
    """Return whether positions count the tokens of a row from 0, as a model does without them."""
    if not isinstance(positions, Tensor) or positions.dim() != 1:
        return False
    expected = torch.arange(len(positions)) if kept is None else kept.long().cumsum(-1) - 1
    return torch.equal(positions.long(), expected)
