"""Distances between the predictions of two logits sources, some rows at a time."""

from __future__ import annotations

from math import prod
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdlight.losses.optimal_transport.distances import MakeLogits, distances_to
from kdlight.losses.recompute import Recomputation
from kdlight.reduce import Chunked, Chunking
from kdlight.sources import Dense, LogitsSource

ENTRIES = 2**22
"""Logits that are computed at once from hidden states, on each side."""


def source_distances(
    student: LogitsSource,
    teacher: LogitsSource,
    *,
    temperature: float,
    p: int,
    chunked: Chunked = "auto",
) -> Tensor:
    """Compute the distances of all pairs of predictions, (n, V), (m, V) -> (n, m).

    Logits from hidden states are computed in blocks of rows, in the forward pass and again in the
    backward pass, so that all logits of a side never exist at once. Differentiable in the student.

    Args:
        student: source of (n, V).
        teacher: source of (m, V), without a gradient.
        temperature: divides both logits.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.
        chunked: False computes all logits at once; a `kdlight.reduce.Chunking` sets the number of
            rows.

    Example:
        >>> student, teacher = Dense(torch.zeros(2, 5)), Dense(torch.zeros(3, 5))
        >>> source_distances(student, teacher, temperature=1.0, p=1).shape
        torch.Size([2, 3])
    """
    teacher_blocks = _logits_functions(teacher, chunked)

    def distances(source: LogitsSource) -> Tensor:
        logits = source.logits()
        with torch.autocast(logits.device.type, enabled=False):
            known, keep = found.get(id(source)), isinstance(source, Dense)
            value = distances_to(
                logits, teacher_blocks, temperature=temperature, p=p, keep=keep, known=known
            )
            found[id(source)] = value.detach()
            return value

    # what the backward pass computes again are the logits, and not their distances
    found: dict[int, Tensor] = {}
    slices = [slice(None)] if isinstance(student, Dense) else _row_slices(student, chunked)
    if len(slices) == 1:
        return distances(student)
    blocks = [student.select(rows) for rows in slices]
    return torch.cat([cast(Tensor, checkpoint(distances, b, use_reentrant=False)) for b in blocks])


def _logits_functions(source: LogitsSource, chunked: Chunked) -> list[MakeLogits]:
    if isinstance(source, Dense):
        return [source.tensor.detach]
    return [_function(source.select(rows)) for rows in _row_slices(source, chunked)]


def _function(source: LogitsSource) -> MakeLogits:
    run = Recomputation(source.device)  # the distances are computed without autocast

    @torch.no_grad()
    def logits() -> Tensor:
        return run(source.logits)

    return logits


def _row_slices(source: LogitsSource, chunked: Chunked) -> list[slice]:
    rows, size = prod(source.shape[:-1]), max(1, ENTRIES // source.shape[-1])
    if isinstance(chunked, Chunking):
        size = chunked.tokens or size
    if chunked is False or rows == 0:
        return [slice(None)]
    return [slice(start, start + size) for start in range(0, rows, size)]
