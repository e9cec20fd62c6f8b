"""Decide whether logits are computed at once or in chunks, and the size of the chunks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from kdlight.reduce.compiled import has_compiler
from kdlight.sources import Dense, LogitsSource, Projected

MAX_DENSE_ENTRIES = 2**23
"""Logits up to this size (32 MiB in float32) are computed at once under ``"auto"``."""

CPU_BLOCK_ENTRIES = 5 * 2**17
"""Entries of a block on a CPU, 2.5 MiB in float32: elementwise operations stay in its cache."""

CHUNK_BYTES = {"cpu": 2**26}
"""Bytes of the logits of a chunk, by device type; 2**28 on an accelerator."""


@dataclass(frozen=True)
class Chunking:
    """Sizes for logits that are computed in chunks, which it requires.

    There are two sizes because two kinds of memory are limited. The product of hidden states and
    head is efficient for many rows, and fills a buffer of ``tokens`` rows, which is reused. The
    elementwise operations are efficient for few rows, whose temporaries fit into the cache.

    Args:
        tokens: rows of a chunk; None for a size that suits the device.
        block: rows of a block within a chunk; None for a size that suits the device.
        compiled: compile the computation on a block with ``torch.compile``, which takes some
            seconds once and makes a GPU faster. ``"auto"`` does so on an accelerator that Triton
            compiles for, ``True`` on a CPU as well. Where a loss cannot be compiled, a warning says
            why.

    Raises:
        ValueError: a size below 1, or another value of ``compiled``.

    Example:
        >>> Chunking(tokens=100, block=30).sizes(150, 32_000, torch.device("cpu"), torch.float32)
        (90, 30)
    """

    tokens: int | None = None
    block: int | None = None
    compiled: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        for name in ("tokens", "block"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}; None chooses a size")
        if self.compiled not in (True, False, "auto"):
            raise ValueError(f"compiled must be True, False or 'auto', got {self.compiled!r}")

    def is_compiled_on(self, device: torch.device) -> bool:
        """Return whether the computation on a block is compiled on ``device``.

        Example:
            >>> Chunking().is_compiled_on(torch.device("cpu"))
            False
        """
        return has_compiler(device) if self.compiled == "auto" else bool(self.compiled)

    def sizes(
        self, rows: int, vocabulary: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[int, int]:
        """Return the rows of a chunk and of a block, for ``rows`` in total.

        A product of fewer than 256 rows is slow; on a CPU more than 384 are hardly faster.
        """
        on_cpu = device.type == "cpu"
        fitting = CHUNK_BYTES.get(device.type, 2**28) // (vocabulary * dtype.itemsize)
        tokens = self.tokens or min(max(fitting, 256), 384 if on_cpu else 4096)
        block = self.block or (max(1, round(CPU_BLOCK_ENTRIES / vocabulary)) if on_cpu else tokens)
        # chunks of equal size, a multiple of the block, so that no small remainder is left
        chunks = max(1, -(-rows // tokens))
        tokens = min(tokens, max(1, block * -(-rows // (chunks * block))))
        return tokens, min(block, tokens)


Chunked: TypeAlias = "bool | Literal['auto'] | Chunking"


def plan(
    student: LogitsSource,
    teacher: LogitsSource | None,
    rows: int,
    chunked: Chunked = "auto",
) -> tuple[Chunking | None, str]:
    """Return the chunking to use, None for all logits at once, and the reason in words.

    Raises:
        ValueError: chunks are required but impossible, or ``chunked`` has another value.

    Example:
        >>> plan(Dense(torch.zeros(8, 5)), None, 8)
        (None, '40 entries are few')
    """
    if chunked is False:
        return None, "chunked is False"
    if chunked not in (True, "auto") and not isinstance(chunked, Chunking):
        raise ValueError(f"chunked must be 'auto', True, False or a Chunking, got {chunked!r}")
    obstacle = _obstacle(student, teacher)
    if chunked == "auto":
        entries = rows * student.shape[-1]
        if obstacle or entries <= MAX_DENSE_ENTRIES:
            return None, obstacle or f"{entries} entries are few"
        return Chunking(), f"{entries} entries are many"
    if obstacle:
        raise ValueError(f"chunked={chunked}, but {obstacle}; set chunked to False or 'auto'")
    return (chunked if isinstance(chunked, Chunking) else Chunking()), f"chunked is {chunked}"


def describe_plan(
    student: LogitsSource,
    teacher: LogitsSource | None,
    mask: Tensor | None = None,
    chunked: Chunked = "auto",
) -> str:
    """Describe how `kdlight.reduce.token_sum` evaluates such logits, and why.

    Example:
        >>> describe_plan(Dense(torch.zeros(2, 3, 5)), None)
        'logits of 6 positions x 5 entries are computed at once (30 entries are few)'
    """
    rows, vocabulary = prod(student.shape[:-1]), student.shape[-1]
    rows = rows if mask is None else int(mask.sum())
    chunking, reason = plan(student, teacher, rows, chunked)
    logits = f"logits of {rows} positions x {vocabulary} entries are computed"
    if chunking is None:
        return f"{logits} at once ({reason})"
    tokens, _ = chunking.sizes(rows, vocabulary, student.device, student.dtype)
    how = " and compiled" if chunking.is_compiled_on(student.device) else ""
    return f"{logits} in chunks of {tokens} tokens{how} ({reason})"


def _obstacle(student: LogitsSource, teacher: LogitsSource | None) -> str:
    """Return why gradients cannot be computed chunk by chunk, or an empty string."""
    if torch.compiler.is_compiling():
        return "the loss itself is being compiled"
    if not isinstance(student, (Dense, Projected)):
        return f"gradients of a student source of type {type(student).__name__} are unknown"
    if isinstance(student, Projected):
        if not isinstance(student.head, torch.nn.Module):
            return "the student's head is a plain function, whose parameters are unknown"
        if any(isinstance(p, DTensor) for p in student.head.parameters()):
            return "the student's head is sharded, and logits need the whole head"
    if teacher is not None and torch.is_grad_enabled() and _requires_grad(teacher):
        return "the teacher requires a gradient, too"
    return ""


def _requires_grad(source: LogitsSource) -> bool:
    if isinstance(source, Dense):
        return source.tensor.requires_grad
    if isinstance(source, Projected):
        parameters = getattr(source.head, "parameters", tuple)()
        return source.hidden.requires_grad or any(p.requires_grad for p in parameters)
    return False


def spans(rows: int, size: int) -> list[slice]:
    """Divide ``rows`` into consecutive slices of at most ``size``; one empty slice for no rows.

    A per-token loss on no row still returns the names that it logs, on which ranks must agree.
    """
    return [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]


@cache
def keep_allocations() -> None:
    """Make the C library keep freed blocks for the next block.

    glibc returns large blocks to the system when they are freed and then pays a page fault for
    every page of the next one. It learns from freed blocks, up to 32 MiB, which size is large.
    Freeing one block just below that size sets the threshold at once; on other systems this is an
    ordinary allocation.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
