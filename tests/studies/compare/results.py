"""Figures of one process as a file; a file that is there was measured whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

Figures = dict[str, float]


def path_of(folder: Path, kind: str, name: str, seed: int) -> Path:
    """Where the figures of one process are."""
    return folder / kind / f"{name}-{seed}.json"


def write(work: Callable[[Path, str, int], Figures], folder: Path, name: str, seed: int) -> None:
    """Do the work, and leave its figures and seconds behind."""
    start = time.perf_counter()
    figures = work(folder, name, seed)
    path = path_of(folder, work.__name__, name, seed)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**figures, "seconds": time.perf_counter() - start}, indent=2))
    part.rename(path)


def read(folder: Path) -> dict[str, list[Figures]]:
    """Of each method, the figures of every process."""
    found: dict[str, list[Figures]] = {}
    for kind in ("fit", "speed"):
        for path in sorted((folder / kind).glob("*.json")):
            name = path.stem.rpartition("-")[0]
            found.setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8")))
    return found


def spread(runs: list[Figures], figure: str) -> tuple[float, float] | None:
    """Mean and standard error over the runs that have ``figure``; 0 for a single one."""
    values = [run[figure] for run in runs if figure in run]
    if not values:
        return None
    return mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
