"""The Sinkhorn loss beside the published form and POT's torch backend: forward and backward.

``python tests/benchmarks/bench_sinkhorn.py [--all] [--threads 1] [--rounds 7] [--no-memory]``

The published form is a plain exponential of `torch.cdist` and twenty normalisations. Both it and
POT's batched solver are given the same distances. Times are medians of interleaved runs (of ten
steps each where a step is short), and "ours/it" the median of the rounds' ratios. Memory is the
peak resident set of a fresh process that takes one step, with the gradient, beyond what it held
with its inputs, over the size of the inputs. Shapes are points x vocabulary of one problem;
``4x128x32000`` are four sequences, each its own.

At the end come training steps of `SinkhornKD` and `ForwardKL` at the setting of
``configs/sinkd.yaml``, see sinkd_step.py. ``--all`` adds the shapes that take seconds, and
``--only`` with no shape measures the steps alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from kdlight.losses import sinkhorn  # noqa: E402
from tests.benchmarks import sinkd_step  # noqa: E402
from tests.benchmarks.memory import extra_mib  # noqa: E402

SMALL = ("16x2", "8x10", "32x10", "64x10", "8x100", "32x100", "64x100", "8x1000", "32x1000")
QUICK = ("64x1000", "128x1000", "8x30522", "16x30522", "32x30522", "64x30522", "128x30522")
SLOW = ("4x128x32000", "512x32000")
STEPS = 10
"""Steps of a turn, where a step is short."""
Loss = Callable[[Tensor, Tensor], Tensor]


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    return torch.cdist((student / 2).softmax(-1), (teacher / 2).softmax(-1), p=1)


def published(student: Tensor, teacher: Tensor) -> Tensor:
    cost = distances(student, teacher)
    plan = torch.exp(-cost / 0.1)
    for _ in range(20):
        plan = plan / plan.sum(-1, keepdim=True)
        plan = plan / plan.sum(-2, keepdim=True)
    return (plan * cost).sum() / student[..., 0].numel()


def pot(student: Tensor, teacher: Tensor) -> Tensor:
    from ot.batch import solve_batch

    cost = distances(student, teacher)
    cost = cost if cost.dim() == 3 else cost[None]
    solved: Any = solve_batch(
        cost, reg=0.1, max_iter=20, tol=0.0, method="log_sinkhorn", grad="autodiff"
    )
    return solved.value_linear.mean()


def ours(student: Tensor, teacher: Tensor, *, gradient: str) -> Tensor:
    geometry = "sequence" if student.dim() == 3 else "batch"
    return sinkhorn(student, teacher, geometry=geometry, gradient=gradient)


CODE: dict[str, Loss] = {
    "ours": partial(ours, gradient="unrolled"),
    "detached": partial(ours, gradient="detached"),
    "implicit": partial(ours, gradient="implicit"),
    "published": published,
    "pot": pot,
}


def inputs(shape: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = tuple(map(int, shape.split("x")))
    student, teacher = (torch.randn(sizes, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher


def step(function: Loss, student: Tensor, teacher: Tensor, steps: int = 1) -> float:
    """Seconds of a forward and backward pass."""
    start = time.perf_counter()
    for _ in range(steps):
        student.grad = None
        function(student, teacher).backward()
    return (time.perf_counter() - start) / steps


def peak_mib(code: str, shape: str, threads: int) -> float:
    """MiB at the peak of a step of a fresh process, beyond its inputs."""
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", code, shape]
    # freed blocks go back to the system at once, so that what is counted is what is held
    system = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
    output = subprocess.run(command, check=True, env=system, stdout=subprocess.PIPE, text=True)
    return float(output.stdout.split()[-1])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="also the shapes that take seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-memory", action="store_true", help="leave the memory column out")
    parser.add_argument("--no-step", action="store_true", help="leave the training steps out")
    parser.add_argument("--step-rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="shapes, such as 16x30522")
    parser.add_argument("--peak", nargs=2, metavar=("CODE", "SHAPE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if options.peak:
        code, shape = options.peak
        step(CODE[code], *inputs("64x1000"))  # what is loaded once is no part of it
        pair = inputs(shape)
        print(extra_mib(lambda: step(CODE[code], *pair), "cpu"))
        return
    shapes = SMALL + QUICK + (SLOW if options.all else ())
    print(f"{'shape':<12} {'code':<10} {'ms':>9} {'ours/it':>8} {'memory/inputs':>14}")
    for shape in shapes if options.only is None else options.only:
        report(shape, options)
    if not options.no_step:
        sinkd_step.report(options.step_rounds)


def report(shape: str, options: argparse.Namespace) -> None:
    """Print the figures of all codes at a shape."""
    pair = inputs(shape)
    steps = STEPS if shape in SMALL else 1
    rounds = [
        {code: step(loss, *pair, steps) for code, loss in CODE.items()}
        for _ in range(options.rounds + 1)
    ][1:]
    size = 2 * pair[0].numel() * 4 / 2**20
    large = size > 16 and not options.no_memory  # less drowns in what torch itself takes
    for code in CODE:
        seconds = statistics.median(times[code] for times in rounds)
        ratio = statistics.median(times["ours"] / times[code] for times in rounds)
        memory = f"{peak_mib(code, shape, options.threads) / size:.2f}" if large else "-"
        line = f"{shape:<12} {code:<10} {1e3 * seconds:9.2f} {ratio:8.2f} {memory:>14}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
