"""Whether the logits are made all at once or in chunks, and in chunks of which size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from kdlight.logits import Dense, LogitsSource, Projected

SMALL = 2**23
"""Logits that are made all at once by ``"auto"``: as many entries as fill 32 MiB in float32."""

CACHE = 5 * 2**17
"""Entries of a block of rows on a CPU: elementwise work stays in its cache (2.5 MiB in float32)."""

BUFFER = {"cpu": 2**26}
"""Bytes of a chunk's logits, by device; an accelerator, which has more to keep busy, gets 2**28."""


@dataclass(frozen=True)
class Chunking:
    """How to evaluate logits that are not all there at once.

    Two sizes, because two things are bounded by different memories. The product of hidden states
    and head wants many rows, and fills a buffer of ``tokens`` rows that is used again and again;
    what is done to each entry wants few, so that its temporaries stay in the processor's cache.

    Args:
        tokens: rows of a chunk; None for what suits the device.
        block: rows of a block inside a chunk; None likewise.
        compiled: compile the work on a block with ``torch.compile``. It costs seconds once, and
            then fewer passes over memory.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> Chunking(tokens=100, block=30).sizes(150, 32_000, torch.zeros(1))
        (90, 30)
    """

    tokens: int | None = None
    block: int | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("tokens", "block"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}; None chooses a size")

    def sizes(self, rows: int, vocabulary: int, like: Tensor) -> tuple[int, int]:
        """Rows of a chunk and of a block, for ``rows`` of them in all, on the device of ``like``.

        Fewer rows than 256 make a product slow; on a CPU more than 384 make it hardly quicker.
        """
        device = like.device.type
        fitting = BUFFER.get(device, 2**28) // (vocabulary * like.element_size())
        tokens = self.tokens or min(max(fitting, 256), 384 if device == "cpu" else 4096)
        block = self.block or (max(1, round(CACHE / vocabulary)) if device == "cpu" else tokens)
        # chunks of one size, a multiple of the block: none of them is a small rest
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
    """The chunking to use, None for all at once, and the reason in words.

    Raises:
        ValueError: chunks are demanded, and cannot be had; or ``chunked`` is none of its values.

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
        if obstacle or entries <= SMALL:
            return None, obstacle or f"{entries} entries are few"
        return Chunking(), f"{entries} entries are many"
    if obstacle:
        raise ValueError(f"chunked={chunked}, but {obstacle}; set chunked to False or 'auto'")
    return (chunked if isinstance(chunked, Chunking) else Chunking()), f"chunked is {chunked}"


def _obstacle(student: LogitsSource, teacher: LogitsSource | None) -> str:
    """Why the gradients cannot be made chunk by chunk, or nothing."""
    if torch.compiler.is_compiling():
        return "the loss itself is being compiled"
    if not isinstance(student, (Dense, Projected)):
        return f"a student source of type {type(student).__name__} does not say how to go back"
    if isinstance(student, Projected):
        if not isinstance(student.head, torch.nn.Module):
            return "the student's head is a plain function, whose parameters cannot be seen"
        if any(isinstance(p, DTensor) for p in student.head.parameters()):
            return "the student's head is sharded, and only a whole head makes logits"
    if teacher is not None and torch.is_grad_enabled() and _takes_gradients(teacher):
        return "the teacher takes a gradient, too"
    return ""


def _takes_gradients(source: LogitsSource) -> bool:
    if isinstance(source, Dense):
        return source.tensor.requires_grad
    if isinstance(source, Projected):
        parameters = getattr(source.head, "parameters", tuple)()
        return source.hidden.requires_grad or any(p.requires_grad for p in parameters)
    return False


def spans(rows: int, size: int) -> list[slice]:
    """Consecutive slices of at most ``size`` out of ``rows``; an empty one where there are none.

    A rule that is asked about no row still tells what it would log, which ranks must agree on.
    """
    return [slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size)]


@cache
def keep_allocations() -> None:
    """Have the C library keep what the blocks free, for the next block.

    glibc gives large blocks back to the system as they are freed, and then pays a page fault for
    every page of the next one; what counts as large it learns from the blocks it sees freed, up to
    32 MiB. One that is just below teaches it all at once. Elsewhere it is an allocation like any.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
