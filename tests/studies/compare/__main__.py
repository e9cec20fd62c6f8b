"""Run what is not done yet, and write the table and the picture of all that is."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.studies import compare
from tests.studies.compare.methods import LEARNED, METHODS
from tests.studies.compare.outside import check_harness
from tests.studies.compare.picture import draw
from tests.studies.compare.prepare import prepare
from tests.studies.compare.results import path_of, read
from tests.studies.compare.setting import Setting
from tests.studies.compare.table import report

CORES = os.cpu_count() or 1
Task = tuple[str, str, int]


def fits(methods: Iterable[str], seeds: int) -> Iterator[Task]:
    """Seed by seed, so that a comparison that is stopped has as much of each method."""
    for seed in range(seeds):
        for name in methods:
            if seed == 0 or name in LEARNED:
                yield "fit", name, seed


def speeds(methods: Iterable[str], rounds: int) -> Iterator[Task]:
    """Round by round."""
    for number in range(rounds):
        yield from (("speed", name, number) for name in methods if name in LEARNED)


def run(folder: Path, task: Task, *, threads: int) -> None:
    """Do one task in a process of its own."""
    kind, name, number = task
    command = [
        sys.executable,
        "-m",
        f"tests.studies.compare.{kind}",
        str(folder),
        name,
        str(number),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} of {name}, {number}, failed:\n{done.stderr[-3000:]}")


def run_all(folder: Path, tasks: Iterable[Task], *, jobs: int, threads: int, what: str) -> None:
    """Do what is not done yet, ``jobs`` at a time, with ``threads`` each."""
    left = [task for task in tasks if not path_of(folder, *task).exists()]
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(left), desc=what, unit="run") as bar:
        for _ in pool.map(lambda task: run(folder, task, threads=threads), left):
            bar.update()


def arguments() -> argparse.ArgumentParser:
    """The command line: what is run, and everything of the setting."""
    parser = argparse.ArgumentParser(
        prog="compare", description=compare.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/compare"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="timings of each method")
    parser.add_argument("--jobs", type=int, default=CORES, help="fits at a time, on a core each")
    parser.add_argument("--only", choices=("fits", "speed", "report"), help="one part of it")
    for name, default in asdict(Setting()).items():
        how: dict[str, Any] = {"type": str if default is None else type(default)}
        if isinstance(default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        elif isinstance(default, list):
            how = {"type": int, "nargs": "+"}
        parser.add_argument(f"--{name}", default=default, **how)
    return parser


def main() -> None:
    """Go on where an interrupted comparison stopped."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options = arguments().parse_args()
    setting = Setting(**{each.name: getattr(options, each.name) for each in fields(Setting)})
    if setting.harness:
        check_harness()
    folder = options.output
    setting.settle(folder)
    prepare(folder)
    if options.only in (None, "fits"):
        tasks = fits(options.methods, options.seeds)
        run_all(folder, tasks, jobs=options.jobs, threads=1, what="fits")
    if options.only in (None, "speed"):
        tasks = speeds(options.methods, options.rounds)
        run_all(folder, tasks, jobs=1, threads=CORES, what="timings")
    found = read(folder)
    results = {name: found[name] for name in METHODS if name in found}
    text = report(results, folder)
    (folder / "compare.md").write_text(text + "\n", encoding="utf-8")
    draw(results, folder / "compare.svg")
    print(f"{text}\n\n{folder / 'compare.md'}, {folder / 'compare.svg'}")


if __name__ == "__main__":
    main()
