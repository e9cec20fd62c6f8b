"""A study: what do losses on features add to a loss on logits?

    python -m tests.studies.features --output FOLDER

Two pairs of networks, several seeds, and the same number of steps, batches and initial weights for
every objective of a seed. On scikit-learn's digits a convolutional student of 4 channels learns
from a teacher of 32, which was trained on the labels of the same images; measured are the accuracy
and the forward KL from the teacher on held-out images. On synthetic tones the tiny architecture of
CREPE learns pitch from the published network, which answers each tone once; measured are the share
of held-out tones within 50 cents of the true pitch and the KL. Weights are those of the authors
where they give one for classifiers, and were not tuned here. A run that is interrupted goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev

import torch

from tests.studies.features_task import LOGITS, METHODS, TASKS, answered_tones

Results = dict[str, dict[str, float]]


def run(job: tuple[str, str, int, int, Path]) -> dict[str, float]:
    """Do one run of the study."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    task, method, seed, epochs, folder = job
    return TASKS[task](method, seed, epochs, folder)


def table(results: Results, task: str, seeds: int) -> str:
    """Means over seeds, standard errors, and the paired difference from the logits alone."""
    what = {"digits": "accuracy, %", "tones": "within 50 cents, %"}[task]
    lines = [f"| {task} | {what} | difference from logits | KL from the teacher |"]
    lines.append("| :-- | --: | --: | --: |")
    for method in METHODS:
        cells = []
        own, base = (
            [results[f"{task}|{name}|{seed}"] for seed in range(seeds)] for name in (method, LOGITS)
        )
        gains = [a["accuracy"] - b["accuracy"] for a, b in zip(own, base, strict=True)]
        for values, form in (
            ([each["accuracy"] for each in own], "{:.1f} ± {:.1f}"),
            (gains, "{:+.1f} ± {:.1f}"),
            ([each["kl"] for each in own], "{:.4f} ± {:.4f}"),
        ):
            error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            cells.append(form.format(fmean(values), error))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    teacher = fmean(results[f"{task}|{LOGITS}|{seed}"]["teacher"] for seed in range(seeds))
    return "\n".join([*lines, f"| the teacher | {teacher:.1f} | | |"])


def draw(path: Path, results: Results, tasks: list[str], seeds: int) -> None:
    """The difference from the logits alone, a point a seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    methods = [name for name in METHODS if name != LOGITS]
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(5 * len(tasks) + 2, 3.6), layout="constrained", squeeze=False
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        for row, method in enumerate(methods):
            gains = [
                results[f"{task}|{method}|{seed}"]["accuracy"]
                - results[f"{task}|{LOGITS}|{seed}"]["accuracy"]
                for seed in range(seeds)
            ]
            axis.plot(gains, [row] * seeds, "o", color="#9ecae1")
            axis.plot(fmean(gains), row, "|", color="#08306b", ms=16, mew=3)
        axis.axvline(0, color="#444444", lw=1)
        axis.set(title=task, xlabel="points above logits alone")
        axis.set_yticks(range(len(methods)), labels=methods)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    mpl.rcParams["svg.hashsalt"] = "kdlight"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Do the runs that are not done yet, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15, help="passes over the digits")
    parser.add_argument("--tone-epochs", type=int, default=8, help="passes over the tones")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    epochs = {"digits": options.epochs, "tones": options.tone_epochs}
    jobs = [
        (task, method, seed, epochs[task], options.output)
        for task in options.tasks
        for seed in range(options.seeds)
        for method in METHODS
        if f"{task}|{method}|{seed}" not in results
    ]
    if "tones" in options.tasks:
        answered_tones(options.output)
    start = time.perf_counter()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        running = {pool.submit(run, job): job for job in jobs}
        for done in as_completed(running):
            task, method, seed, *_ = running[done]
            results[f"{task}|{method}|{seed}"] = done.result()
            path.write_text(json.dumps(results, indent=1))
            spent = time.perf_counter() - start
            print(f"{spent:.0f} s, {task}, {method}, seed {seed}: {done.result()}", flush=True)
    tables = "\n\n".join(table(results, task, options.seeds) for task in options.tasks)
    (options.output / "table.md").write_text(tables + "\n", encoding="utf-8")
    draw(options.output / "features.svg", results, options.tasks, options.seeds)
    print(tables)


if __name__ == "__main__":
    main()
