"""How much memory a piece of work needs beyond its inputs, on a CPU or a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def high_water_mib() -> float:
    """This process's own peak; ru_maxrss would count the parent that it was forked from."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def extra_mib(work: Callable[[], Any], device: str) -> float:
    """Run ``work``, and return the MiB at its peak beyond what was allocated before."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what the C library kept would hide what is needed
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water_mib()
    work()
    return high_water_mib() - before


def peak_mib(device: str) -> float:
    """The peak of this process so far: resident on a CPU, allocated on a GPU."""
    return high_water_mib() if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
