"""A study: which of several teachers should a student learn from, and how much beside the label?

    python -m tests.studies.fusion --output FOLDER

On scikit-learn's digits, three convolutional teachers have each seen all training images of their
own digits (0 to 3, 4 to 6, 7 to 9) and few of the others', all with right labels: which of them is
right depends on the image. A student of 32 hidden units learns from half of them and half of the
labels: of the one teacher that is best on validation images, of the average of all, with equal
weights or by their confidence or entropy, or routed by a gate. Learned fusion predicts, for every
image, how much the average counts beside the label, and is fitted to the right labels of 200
validation images. What these labels are worth by themselves tells the last row, which trains on
them. All is done with right and with 30 % wrong labels of the training images; accuracy and
expected calibration error are those of 699 test images that nothing else has seen. Every seed draws
the split, the wrong labels, the weights and the order anew. Results are kept in the folder, and a
study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from statistics import fmean, stdev

import torch

from tests.studies.fusion_task import (
    AVERAGE,
    EPOCHS,
    LEARNED,
    TEACHER_EPOCHS,
    WAYS,
    Figures,
    run,
    teacher_figures,
)
from tests.studies.kept_results import KeptResults

NOISES = {"right labels": 0.0, "30 % wrong labels": 0.3}
Results = dict[str, Figures]


def cell(values: list[float], form: str = "{:.1f} ± {:.1f}") -> str:
    """Mean and standard error."""
    return form.format(fmean(values), stdev(values) / len(values) ** 0.5 if values[1:] else 0.0)


def table(results: Results, labels: str, seeds: int) -> str:
    """A row for each way, with the paired difference of accuracies from the average."""
    lines = [f"| {labels} | accuracy, % | difference from the average | ECE, % |"]
    lines.append("| :-- | --: | --: | --: |")
    runs = {way: [results[f"{labels}|{way}|{seed}"] for seed in range(seeds)] for way in WAYS}
    for way, own in runs.items():
        pairs = zip(own, runs[AVERAGE], strict=True)
        cells = (
            cell([each["accuracy"] for each in own]),
            cell([a["accuracy"] - b["accuracy"] for a, b in pairs], "{:+.1f} ± {:.1f}"),
            cell([each["ece"] for each in own]),
        )
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def notes(results: Results, seeds: int) -> str:
    """The teachers, and the ratios that were learned."""
    each = [results[f"teachers|{seed}"] for seed in range(seeds)]
    found = [f"{name} {cell([one[name] for one in each])}" for name in each[0]]
    lines = [f"Accuracy of the teachers: {', '.join(found)} %."]
    for labels in NOISES:
        learned = [results[f"{labels}|{LEARNED}|{seed}"] for seed in range(seeds)]
        names = [name for name in learned[0] if name.startswith("ratio")]
        found = []
        for name in names:
            values = [one[name] for one in learned if name in one]
            found.append(f"{name.split(', ')[1]} {cell(values, '{:.2f} ± {:.2f}')}")
        lines.append(f"Learned ratio of the teacher, {labels}: {', '.join(found)}.")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Do the runs that are not done yet, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a student")
    parser.add_argument("--teacher-epochs", type=int, default=TEACHER_EPOCHS)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "results.json"
    settings = {"epochs": options.epochs, "teacher_epochs": options.teacher_epochs}
    results = KeptResults(path, settings)
    for seed in range(options.seeds):
        results.get_or_compute(
            f"teachers|{seed}",
            lambda seed=seed: teacher_figures(seed, options.output, options.teacher_epochs),
        )
        for labels, noise in NOISES.items():
            for way in WAYS:
                results.get_or_compute(
                    f"{labels}|{way}|{seed}",
                    lambda way=way, noise=noise, seed=seed: run(
                        way, noise, seed, options.output, options.epochs, options.teacher_epochs
                    ),
                )
    tables = [table(results, labels, options.seeds) for labels in NOISES]
    text = "\n\n".join([*tables, notes(results, options.seeds)])
    (options.output / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main()
