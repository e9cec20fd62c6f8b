"""The table, a row a method, and under it what it was made with."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

from tests.studies.compare.methods import LEARNED, METHODS
from tests.studies.compare.results import Figures, spread
from tests.studies.compare.setting import Setting

COLUMNS = {
    "forward_kl": ("forward KL", 3),
    "reverse_kl": ("reverse KL", 3),
    "perplexity": ("perplexity", 1),
    "bits_per_byte": ("bits per byte, lm-eval", 3),
    "top1_agreement": ("top-1 agreement, %", 1),
    "own_text_agreement": ("agreement on its own text, %", 1),
    "ece": ("ECE, %", 2),
    "tokens_per_second": ("tokens/s", 0),
    "peak_memory": ("peak memory, GiB", 2),
}
PERCENT = ("top1_agreement", "own_text_agreement", "ece")


def table(results: dict[str, list[Figures]]) -> str:
    """A row a method: mean and standard error over seeds."""
    lines = ["| student learns by | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("| :-- |" + " --: |" * len(COLUMNS))
    for name, runs in results.items():
        cells = [_cell(runs, figure, digits) for figure, (_, digits) in COLUMNS.items()]
        lines.append(f"| {METHODS[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(runs: list[Figures], figure: str, digits: int) -> str:
    found = spread(runs, figure)
    if found is None:
        return ""
    value, error = (each * (100 if figure in PERCENT else 1) for each in found)
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")


def report(results: dict[str, list[Figures]], folder: Path) -> str:
    """The table, and what it was made with."""
    setting = Setting.load(folder)
    prepared = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    learned = [runs for name, runs in results.items() if name in LEARNED]
    seeds = sorted({sum("forward_kl" in run for run in runs) for runs in learned} - {0})
    runs = [run for each in results.values() for run in each]
    seconds = sum(run["seconds"] for run in runs)
    sizes = {name: size / 2**20 for name, size in prepared["bytes"].items()}
    return "\n".join(
        [
            table(results),
            "",
            f"Teacher {setting.source}, student: layers {setting.layers}; {setting.steps} steps of"
            f" {setting.batch} x {setting.block} tokens, AdamW {setting.lr:g} falling to 0,"
            f" {setting.precision}; {setting.held_out} x {setting.block} held-out tokens,"
            f" {setting.prompts} x {setting.new_tokens} tokens of own text; seeds a method:"
            f" {' to '.join(map(str, seeds))}.",
            f"The teacher was asked once: {sizes['whole']:.0f} MiB of hidden states,"
            f" {sizes['top']:.1f} MiB of the top {setting.k}"
            f" ({prepared['train_tokens'] + prepared['validation_tokens']} tokens).",
            f"{len(runs)} processes took {seconds / 60:.0f} minutes, added up, on"
            f" {os.cpu_count()} cores ({platform.machine()}).",
        ]
    )
