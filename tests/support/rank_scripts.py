"""Scripts of tests that start the ranks of a run, each a process of its own that uses gloo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]


def start_script(
    module: str, *arguments: str, cwd: Path | None = ROOT, timeout: int = 240
) -> subprocess.CompletedProcess[str]:
    """Run a module as a script; ranks that wait for each other would never end without a limit."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_script(module: str, *arguments: str, **options: Any) -> str:
    """Run a module as a script that must not fail; return what it writes to stderr."""
    done = start_script(module, *arguments, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def save_results(results: Any, folder: Path) -> None:
    """Save the results of this rank where `results_of_ranks` finds them, at once or not at all."""
    path = folder / f"{os.environ.get('LOCAL_RANK', 0)}.pt"
    torch.save(results, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def results_of_ranks(folder: Path, *, ranks: int = 2) -> list[Any]:
    """Load what each rank saved; some may still write when the first one ends."""
    return [_load_when_written(folder / f"{rank}.pt") for rank in range(ranks)]


def _load_when_written(path: Path) -> Any:
    for _ in range(600):
        if path.exists():
            return torch.load(path)
        time.sleep(0.1)
    raise TimeoutError(f"{path.name} is missing a minute after the first rank ended")
