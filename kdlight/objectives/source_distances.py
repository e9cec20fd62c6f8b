"""Distances between predictions that come from sources, some rows of logits at a time."""

from __future__ import annotations

from math import prod
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdlight.losses.optimal_transport.distances import MakeLogits, distances_to
from kdlight.reduce import Chunked, Chunking
from kdlight.sources import Dense, LogitsSource

ENTRIES = 2**22
"""Logits that are made at once of hidden states, of either side."""


def source_distances(
    student: LogitsSource,
    teacher: LogitsSource,
    *,
    temperature: float,
    p: int,
    chunked: Chunked = "auto",
) -> Tensor:
    """Distances of all pairs of predictions, (n, V), (m, V) -> (n, m).

    Where logits come from hidden states, neither side is ever there as a whole: blocks of rows are
    made from the states, forward and again backward. Differentiable in the student.

    Args:
        student: source of (n, V).
        teacher: source of (m, V), held fast.
        temperature: divides both logits.
        p: 1 or 2, the norm.
        chunked: False makes all logits at once, a `kdlight.reduce.Chunking` so many rows.
    """
    beside = _makers(teacher, chunked)

    def rows(source: LogitsSource) -> Tensor:
        logits = source.logits()
        with torch.autocast(logits.device.type, enabled=False):
            keep = isinstance(source, Dense)
            return distances_to(logits, beside, temperature=temperature, p=p, keep=keep)

    parts = [slice(None)] if isinstance(student, Dense) else _spans(student, chunked)
    if len(parts) == 1:
        return rows(student)
    blocks = [student.select(part) for part in parts]
    return torch.cat([cast(Tensor, checkpoint(rows, b, use_reentrant=False)) for b in blocks])


def _makers(source: LogitsSource, chunked: Chunked) -> list[MakeLogits]:
    if isinstance(source, Dense):
        return [source.tensor.detach]
    return [lambda part=part: _make(source, part) for part in _spans(source, chunked)]


@torch.no_grad()
def _make(source: LogitsSource, part: slice) -> Tensor:
    return source.select(part).logits()


def _spans(source: LogitsSource, chunked: Chunked) -> list[slice]:
    rows, size = prod(source.shape[:-1]), max(1, ENTRIES // source.shape[-1])
    if isinstance(chunked, Chunking):
        size = chunked.tokens or size
    if chunked is False or rows == 0:
        return [slice(None)]
    return [slice(start, start + size) for start in range(0, rows, size)]
