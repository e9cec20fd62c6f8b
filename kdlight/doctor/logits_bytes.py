"""Bytes of the logits of one micro-batch, dense and in chunks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch

from kdlight.objectives import LossInputs
from kdlight.reduce import Chunking, plan
from kdlight.sources import Dense, LogitsSource, Projected


@dataclass(frozen=True)
class LogitsBytes:
    """Bytes of the logits of student and teacher.

    Attributes:
        student: bytes of all logits of the student and of their gradient.
        student_chunked: bytes of one chunk; None for logits that exist as a tensor in any case.
        teacher: bytes of all logits of the teacher.
        teacher_chunked: bytes of one chunk; None as above.
        tokens: positions of a chunk.
        in_chunks: whether the run computes the logits in chunks.
        why: the reason for that, as text.
    """

    student: int
    student_chunked: int | None
    teacher: int
    teacher_chunked: int | None
    tokens: int
    in_chunks: bool
    why: str


def logits_bytes(
    inputs: LossInputs, *, valid: int, autocast_dtype: torch.dtype | None, device: torch.device
) -> LogitsBytes:
    """Return the bytes of the logits of ``inputs``.

    Args:
        inputs: the inputs of the objective, whose sources may be fake tensors.
        valid: the number of valid positions.
        autocast_dtype: dtype of matrix products under autocast; None without autocast.
        device: device of the run.

    Raises:
        ValueError: chunks are required, but these logits cannot be computed in chunks.
    """
    chunking, why = plan(inputs.student, inputs.teacher, valid, inputs.chunked)
    dtype = autocast_dtype or inputs.student.dtype
    tokens, _ = (chunking or Chunking()).sizes(valid, inputs.student.shape[-1], device, dtype)
    tokens = min(tokens, valid)
    student, student_chunked = _dense_and_chunk(inputs.student, valid, tokens, autocast_dtype)
    teacher, teacher_chunked = 0, None
    if inputs.teacher is not None:
        teacher, teacher_chunked = _dense_and_chunk(inputs.teacher, valid, tokens, autocast_dtype)
    return LogitsBytes(
        student=2 * student,  # with their gradient
        student_chunked=student_chunked,
        teacher=teacher,
        teacher_chunked=teacher_chunked,
        tokens=tokens,
        in_chunks=chunking is not None,
        why=why,
    )


def position_count(inputs: LossInputs) -> int:
    """Return the number of positions, valid or not."""
    return prod(inputs.student.shape[:-1])


def _dense_and_chunk(
    source: LogitsSource, valid: int, tokens: int, autocast_dtype: torch.dtype | None
) -> tuple[int, int | None]:
    """Return the bytes of all logits of a source, and of a chunk of ``tokens``."""
    if isinstance(source, Projected):
        row = source.shape[-1] * (autocast_dtype or source.dtype).itemsize
        return valid * row, tokens * row
    if isinstance(source, Dense):  # the tensor exists in any case, with invalid positions
        return source.tensor.nbytes, None
    # top-k tokens of each position, from which rows over the vocabulary are made in float32
    stored = sum(each.nbytes for each in vars(source).values() if isinstance(each, torch.Tensor))
    row = source.shape[-1] * torch.float32.itemsize
    return stored + valid * row, stored + tokens * row
