"""Functions that run on several ranks, each a process of its own that uses gloo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


def run_on_ranks(function: Callable[[int], None], folder: Path, *, ranks: int = 2) -> None:
    """Call ``function`` of the top level of a file with the number of each rank.

    Raises:
        ProcessRaisedException: the function raised, for example by an assertion.
    """
    spawn(_run, (function, str(folder), ranks), nprocs=ranks)


def _run(rank: int, function: Callable[[int], None], folder: str, ranks: int) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    try:
        function(rank)
    finally:
        dist.destroy_process_group()
