"""Rows and answers that fit together, checked before a loss reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdlight.cache.layout import Layout
from kdlight.cache.records import Sequence
from kdlight.remote.rows import TokenRow


def check_tokens(
    rows: Mapping[int, TokenRow], *, vocab_size: int | None, length: int | None
) -> None:
    """Raise a ValueError for rows that a server cannot score.

    Args:
        rows: the rows, by number.
        vocab_size: number of tokens; None if it is not known.
        length: the longest sequence; None if it is not known.

    Example:
        >>> check_tokens({3: TokenRow(b"", [1, 9], 0)}, vocab_size=5, length=None)
        Traceback (most recent call last):
        ValueError: row 3 of the batch has the token id 9, but the served teacher has 5 tokens; ...
    """
    for number, row in rows.items():
        if length is not None and len(row.tokens) > length:
            raise ValueError(
                f"row {number} of the batch has {len(row.tokens)} tokens, but the served teacher"
                f" takes at most {length}; use shorter blocks, or start the server with a longer"
                " context (vLLM: --max-model-len, one more than the longest row)"
            )
        if vocab_size is not None and not 0 <= min(row.tokens) <= max(row.tokens) < vocab_size:
            wrong = min(row.tokens) if min(row.tokens) < 0 else max(row.tokens)
            raise ValueError(
                f"row {number} of the batch has the token id {wrong}, but the served teacher has"
                f" {vocab_size} tokens; use data with the tokenizer of the teacher"
            )


def check_scored(
    batch: Any,
    sequences: Mapping[int, Sequence],
    starts: Mapping[int, int],
    url: str,
    layout: Layout = Layout(),  # noqa: B008
) -> None:
    """Raise a ValueError where a valid position of the batch has no answer.

    Servers that score a prompt do not score the position of its last token, which predicts what
    comes after it. It is not valid where labels are those of a causal language model.

    Args:
        batch: the batch.
        sequences: the answers, by the number of the row.
        starts: the position at which each begins.
        url: the server.
        layout: where labels stand.
    """
    valid = layout.valid_positions(batch)
    if valid is None:
        return
    for number, sequence in sequences.items():
        stop = starts[number] + sequence.length
        wanted = np.flatnonzero(valid[number, starts[number] : stop].numpy())
        missing = np.setdiff1d(wanted, sequence.positions)
        if len(missing):
            raise ValueError(
                f"{url} returned no log-probabilities for position"
                f" {starts[number] + int(missing[0])} of row {number}, which is valid; use a server"
                " that scores all positions, such as `kdlight serve`"
            )
