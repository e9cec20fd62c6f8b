"""The memory that is available to a rank, and whether it is enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from kdlight.doctor.byte_sizes import format_bytes
from kdlight.doctor.findings import Finding, error, warning
from kdlight.doctor.memory_rows import MemoryRow, total_bytes

CONTAINER_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def check_memory(rows: list[MemoryRow], memory: int | None) -> Iterator[Finding]:
    """Yield a finding if ``rows`` need more than ``memory``, or more than nine tenths of it."""
    needed = total_bytes(rows)
    if memory is None or needed <= 0.9 * memory:
        return
    if needed <= memory:
        yield warning("less than a tenth of the memory is left for all that is not estimated here")
        return
    largest = max((row for row in rows if not row.alternative), key=lambda row: row.bytes or 0)
    yield error(
        f"a rank needs {format_bytes(needed)} of memory, but {format_bytes(memory)} are available;"
        f" the largest part: {largest.name}, {format_bytes(largest.bytes or 0)}"
    )


def memory_of_a_rank(trainer: Trainer) -> int | None:
    """Return the bytes that are available to one rank; None if unknown."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "cpu":
        memory = main_memory()
        return None if memory is None else memory // trainer.num_devices
    return None


def main_memory() -> int | None:
    """Return the bytes of memory of this machine, or of the container of this process."""
    limits = []
    with suppress(ValueError, OSError, AttributeError):  # not on all systems
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in map(Path, CONTAINER_LIMITS):
        with suppress(ValueError, OSError):  # "max" means no limit
            limits.append(int(path.read_text()))
    return min(limits, default=None)
