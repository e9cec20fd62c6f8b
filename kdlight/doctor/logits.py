"""Bytes of the logits of a step, dense and in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from kdlight.objectives import LossInputs
from kdlight.reduce import Chunking, plan
from kdlight.sources import Dense, LogitsSource, Projected


@dataclass(frozen=True)
class LogitsBytes:
    """What logits take: all of them, and as much of them as chunks need.

    The latter is None for logits that are there in any case.

    Attributes:
        tokens: positions of a chunk.
        in_chunks: whether the run will make them in chunks.
        why: the reason, in words.
    """

    student: int
    student_chunked: int | None
    teacher: int
    teacher_chunked: int | None
    tokens: int
    in_chunks: bool
    why: str


def logits_bytes(
    step: LossInputs, *, kept: int, autocast: torch.dtype | None, device: torch.device
) -> LogitsBytes:
    """Bytes of the logits of ``step``, of which ``kept`` positions count.

    Raises:
        ValueError: chunks are demanded, and cannot be had.
    """
    chunking, why = plan(step.student, step.teacher, kept, step.chunked)
    like = torch.empty(0, dtype=autocast or _dtype(step.student), device=device)
    tokens, _ = (chunking or Chunking()).sizes(kept, step.student.shape[-1], like)
    tokens = min(tokens, kept)
    student, student_chunked = _both(step.student, kept, tokens, autocast)
    teacher, teacher_chunked = 0, None
    if step.teacher is not None:
        teacher, teacher_chunked = _both(step.teacher, kept, tokens, autocast)
    return LogitsBytes(
        student=2 * student,  # and their gradient
        student_chunked=student_chunked,
        teacher=teacher,
        teacher_chunked=teacher_chunked,
        tokens=tokens,
        in_chunks=chunking is not None,
        why=why,
    )


def _both(
    source: LogitsSource, kept: int, tokens: int, autocast: torch.dtype | None
) -> tuple[int, int | None]:
    """Bytes of all logits of a source, and of those of a chunk of ``tokens``."""
    if isinstance(source, Projected):
        row = source.shape[-1] * (autocast or _dtype(source)).itemsize
        return kept * row, tokens * row
    if isinstance(source, Dense):  # they are there in any case, and positions without a label too
        return source.tensor.nbytes, None
    # the likeliest tokens of each position, of which whole rows are made in float32
    stored = sum(each.nbytes for each in vars(source).values() if isinstance(each, torch.Tensor))
    row = source.shape[-1] * torch.float32.itemsize
    return stored + kept * row, stored + tokens * row


def _dtype(source: LogitsSource) -> torch.dtype:
    if isinstance(source, Dense):
        return source.tensor.dtype
    return source.hidden.dtype if isinstance(source, Projected) else torch.float32


def positions(step: LossInputs) -> int:
    """Number of positions of a step, whether they count or not."""
    return prod(step.student.shape[:-1])
