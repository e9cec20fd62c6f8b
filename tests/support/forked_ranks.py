"""Ranks of a test that are forked from a process which has imported what they need.

Importing torch, Lightning and transformers takes ten seconds, which would be most of the time of a
short fit on two ranks. The ranks find each other as those of torchrun do: `LOCAL_RANK` and a port
are set from outside. Tests of how Lightning starts its own ranks use `rank_scripts.run_script`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lightning.fabric.plugins.environments.lightning import find_free_network_port

IMPORTED = [
    "lightning.pytorch",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "transformers.models.llama.modeling_llama",
    "kdlight.callbacks",
    "kdlight.cli.lightning_cli",
    "kdlight.modules",
    "tests.support.toy",
]

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(IMPORTED)


class Ended(NamedTuple):
    """What became of the ranks: their exit codes, negative signals, and what they wrote."""

    codes: list[int]
    stderr: str


def run_forked(module: str, *arguments: str, ranks: int = 2, timeout: int = 240) -> str:
    """Run a module as a script on each rank, none of which may fail; return their stderr."""
    ended = start_forked(module, *arguments, ranks=ranks, timeout=timeout)
    assert not any(ended.codes), f"exit codes {ended.codes}\n{ended.stderr}"
    return ended.stderr


def start_forked(module: str, *arguments: str, ranks: int = 2, timeout: int = 240) -> Ended:
    """Run a module as a script on each rank, until all have ended, or the first one fails."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / str(rank) for rank in range(ranks)]
        group = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(find_free_network_port()),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        processes: list[BaseProcess] = []
        for rank, path in enumerate(paths):
            environment = {**os.environ, **group, "LOCAL_RANK": str(rank)}
            process = _forking.Process(
                target=_run, args=(module, arguments, environment, str(path)), daemon=True
            )
            process.start()
            processes.append(process)
        _wait(processes, time.monotonic() + timeout)
        written = [path.read_text()[-3000:] if path.exists() else "" for path in paths]
    return Ended([process.exitcode or 0 for process in processes], "\n".join(written))


def _wait(processes: list[BaseProcess], deadline: float) -> None:
    """Wait until all have ended, or the deadline, which a failure of one brings near."""
    failed = False
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        if not failed and any(process.exitcode for process in processes):
            failed, deadline = True, min(deadline, time.monotonic() + 10)  # others may end, too
        time.sleep(0.05)
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


def _run(module: str, arguments: tuple[str, ...], environment: Mapping[str, str], err: str) -> None:
    """Become a rank: run the module as the main one, with its standard error in a file."""
    from lightning.fabric.utilities import rank_zero as fabric
    from lightning.pytorch.utilities import rank_zero_only

    with open(err, "w", buffering=1) as file:
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    # read when Lightning was imported, where there was no rank
    rank_zero_only.rank = fabric.rank_zero_only.rank = int(environment["LOCAL_RANK"])  # type: ignore[attr-defined]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
