"""The student's most likely tokens at each position, which a server is asked to score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlight.remote.rows import TokenRow
from kdlight.sources import Logits, as_source

POSITIONS_PER_CHUNK = 256
"""Number of positions whose logits are computed at once."""


@torch.no_grad()
def student_top(
    student: Logits, rows: Mapping[int, TokenRow], k: int, labels: Tensor | None = None
) -> dict[int, NDArray[np.int64]]:
    """Return the ids ``(T, k)`` of the k most likely tokens of each row, by its number.

    Args:
        student: the student's logits ``(B, T, V)``.
        rows: the rows.
        k: number of tokens.
        labels: aligned labels ``(B, T)``; where they are -100, the ids are 0 to k - 1, as no loss
            reads the position.

    Example:
        >>> rows = {0: TokenRow(b"", [5, 6], 1)}
        >>> student_top(torch.tensor([[[0.0, 1, 2], [3, 2, 1], [0, 9, 1]]]), rows, 2)[0].tolist()
        [[0, 1], [1, 2]]
    """
    source = as_source(student)
    width, k = source.shape[1], min(k, source.shape[-1])
    valid = torch.ones(source.shape[:-1], dtype=torch.bool)
    if labels is not None:
        valid = labels.cpu() != -100
    found = torch.arange(k).repeat(*source.shape[:-1], 1)
    flat = found.view(-1, k)
    inside = torch.zeros_like(valid)
    for number, row in rows.items():
        inside[number, row.start : row.start + len(row.tokens)] = True
    places = (valid & inside).flatten().nonzero().flatten()
    for part in places.split(POSITIONS_PER_CHUNK):
        logits = source.select(part.to(source.device)).logits()
        flat[part] = logits.topk(k, -1).indices.cpu()
    found = flat.view(-1, width, k)
    return {
        number: found[number, row.start : row.start + len(row.tokens)].numpy()
        for number, row in rows.items()
    }
