"""Scripts of tests that start the ranks of a run, each a process of its own that uses gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.support.forked_ranks import run_forked

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


def fit_on_ranks(
    module: str,
    cases: Mapping[str, Mapping[str, Any]],
    folder: Path,
    *,
    ranks: int = 2,
    timeout: int = 240,
) -> list[Any]:
    """Run the fits of ``cases`` on ranks of their own; return the results of each rank by case.

    Args:
        module: a script that calls `fit_as_rank`.
        cases: options of each fit by name.
        folder: an empty folder for the results.
        ranks: number of ranks, which is an option of each fit as well.
        timeout: seconds for all of them.
    """
    options = {name: {"ranks": ranks, **case} for name, case in cases.items()}
    run_forked(module, json.dumps(options), str(folder), ranks=ranks, timeout=timeout)
    return results_of_ranks(folder, ranks=ranks)


def fit_as_rank(
    fit: Callable[[dict[str, Any]], Any], expected: tuple[type[Exception], ...] = ()
) -> None:
    """Run one case after the other, as `fit_on_ranks` asks for it; called on every rank.

    Args:
        fit: from the options of a case to its result.
        expected: errors that are results, as ``{"error": "TYPE: TEXT"}``.
    """
    cases, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name, options in cases.items():
        try:
            results[name] = fit(options)
        except expected as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    save_results(results, folder)
