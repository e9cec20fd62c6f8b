"""How long a training step waits for a served teacher, with and without asking ahead.

    python -m tests.benchmarks.bench_served_step

A student with 10 of 30 layers of SmolLM2-135M learns from the whole model: in this process, and
through ``kdlight serve`` in a process of its own on the same machine, which has a core of its own.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback

from kdlight import DistillationModule, FrozenTeacher, PrunedCausalLM, RemoteTeacher
from kdlight.data import TextDataModule
from kdlight.models import CausalLM
from kdlight.objectives import ForwardKL
from tests.benchmarks.bench_serve import BLOCK, SOURCE, serving
from tests.support.served_fit import trainer

STEPS, BATCH = 10, 4


class Clock(Callback):
    """The seconds of each step, and those that it waited for the teacher."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.waits: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self._begin = time.perf_counter()

    def on_train_batch_end(self, run: Any, module: Any, *args: Any) -> None:
        self.steps.append(time.perf_counter() - self._begin)
        self.waits.append(getattr(module.teacher, "waited", 0.0))


def measure(teacher: Any) -> tuple[float, float]:
    """Return the median seconds of a step and of its wait, without the first two steps."""
    student = PrunedCausalLM(layers=10, source=SOURCE)
    module = DistillationModule(student, ForwardKL(), teacher=teacher)
    data = TextDataModule(SOURCE, block_size=BLOCK, batch_size=BATCH, max_tokens=20_000)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_steps": STEPS, "limit_val_batches": 0, "callbacks": [clock]}
        trainer(Path(folder), **options).fit(module, data)
    return median(clock.steps[2:]), median(clock.waits[2:])


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = {"in this process": measure(FrozenTeacher(CausalLM(SOURCE)))}
    with serving("bfloat16") as url:
        served = {"top 50": {"k": 50}, "hidden states": {"states": True}}
        for name, options in served.items():
            for prefetch in (False, True):
                shown = f"served, {name}, {'asked ahead' if prefetch else 'asked when needed'}"
                rows[shown] = measure(RemoteTeacher(url, prefetch=prefetch, **options))
    print("| teacher | seconds a step | of which it waits |\n| --- | --: | --: |")
    for name, (step, wait) in rows.items():
        print(f"| {name} | {step:.2f} | {wait / step:.0%} |")


if __name__ == "__main__":
    main()
