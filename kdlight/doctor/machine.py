"""How much memory there is for a rank, and whether it is enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from kdlight.doctor.findings import Finding, error, warning
from kdlight.doctor.sizes import Row, size, total

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(rows: list[Row], memory: int | None) -> Iterator[Finding]:
    """Findings about rows that come to more than there is, or nearly to it."""
    needed = total(rows)
    if memory is None or needed <= 0.9 * memory:
        return
    if needed <= memory:
        yield warning("less than a tenth of the memory is left for what is not counted here")
        return
    largest = max((row for row in rows if not row.alternative), key=lambda row: row.bytes or 0)
    yield error(
        f"a rank needs {size(needed)} of memory, and there are {size(memory)}; the largest part:"
        f" {largest.name}, {size(largest.bytes or 0)}"
    )


def memory_of_a_rank(trainer: Trainer) -> int | None:
    """Bytes that one rank can have; None where that cannot be known."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        return total
    if device.type == "cpu":
        total = main_memory()
        return None if total is None else total // trainer.num_devices
    return None


def main_memory() -> int | None:
    """Bytes of the machine, or of the container that this process lives in."""
    found = []
    with suppress(ValueError, OSError, AttributeError):  # not on all systems
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in map(Path, LIMITS):
        with suppress(ValueError, OSError):  # "max" is no limit
            found.append(int(path.read_text()))
    return min(found, default=None)
