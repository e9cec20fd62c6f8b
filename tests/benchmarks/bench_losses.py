"""Each loss beside the three lines one would write without a library: forward and backward.

``python -m tests.benchmarks.bench_losses [--threads 2] [--rounds 7] [--only NAME ...]``

Times are medians of interleaved runs, and "ours/it" is the median of the rounds' ratios, so that a
busy machine slows both sides alike. Peak memory is the resident set of a fresh process that runs
one function once, less that of a process that only makes its inputs. Peer libraries are measured
where they can be imported, each with the reduction it has.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor

from kdlight import losses
from tests.benchmarks.machine import header
from tests.benchmarks.memory import high_water_mib
from tests.benchmarks.peers import PEERS, Loss, missing
from tests.benchmarks.plain import PLAIN

SIZES = ((4096, 1000), (512, 32000))

OURS: dict[str, Loss] = {
    "forward_kl": lambda s, t, y: losses.forward_kl(s, t),
    "reverse_kl": lambda s, t, y: losses.reverse_kl(s, t),
    "symmetric_kl": lambda s, t, y: losses.symmetric_kl(s, t),
    "jensen_shannon": lambda s, t, y: losses.jensen_shannon(s, t),
    "total_variation": lambda s, t, y: losses.total_variation(s, t),
    "skew_forward_kl": lambda s, t, y: losses.skew_forward_kl(s, t),
    "skew_reverse_kl": lambda s, t, y: losses.skew_reverse_kl(s, t),
    "adaptive_kl": lambda s, t, y: losses.adaptive_kl(s, t),
    "todi": lambda s, t, y: losses.todi(s, t),
    "alpha_beta": lambda s, t, y: losses.alpha_beta(s, t),
    "decoupled_kl": lambda s, t, y: losses.decoupled_kl(s, t, y),
    "taid": lambda s, t, y: losses.taid(s, t, t=0.4),
    "cross_entropy": lambda s, t, y: losses.cross_entropy(s, y),
}
CODE: dict[str, dict[str, Loss]] = {"ours": OURS, "plain": PLAIN, **PEERS}


def inputs(rows: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(rows, vocabulary, generator=generator).mul_(2).requires_grad_()
    teacher = torch.randn(rows, vocabulary, generator=generator).mul_(2)
    return student, teacher, torch.randint(vocabulary, (rows,), generator=generator)


def step(function: Loss, student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    student.grad = None
    start = time.perf_counter()
    function(student, teacher, labels).mean().backward()
    return time.perf_counter() - start


def rounds_of(functions: list[Loss], size: tuple[int, ...], rounds: int) -> list[list[float]]:
    """The seconds of each function in each round, run in turns after a round that warms up."""
    arguments = inputs(*size)
    return [[step(f, *arguments) for f in functions] for _ in range(rounds + 1)][1:]


def peak_mib(code: str, name: str, size: tuple[int, ...], threads: int) -> float:
    """The peak resident memory of a fresh process, in MiB."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_losses", "--peak", code, name]
    command += ["--threads", str(threads), "--size", "x".join(map(str, size))]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])  # peers talk as they are imported


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=OURS, default=list(OURS))
    parser.add_argument("--size", nargs="*", default=["x".join(map(str, size)) for size in SIZES])
    parser.add_argument("--no-memory", action="store_true", help="leave the memory columns out")
    parser.add_argument("--peak", nargs=2, metavar=("CODE", "NAME"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    sizes = [tuple(map(int, size.split("x"))) for size in options.size]
    if options.peak:
        code, name = options.peak
        arguments = inputs(*sizes[0])
        if code != "nothing":
            step(CODE[code][name], *arguments)
        print(high_water_mib())
        return
    print(header())
    for size in sizes:
        print(f"\nN={size[0]} V={size[1]} float32, {options.threads} threads")
        print(f"{'loss':<16} {'code':<10} {'ms':>8} {'ours/it':>8} {'MiB':>7}")
        floor = 0.0 if options.no_memory else peak_mib("nothing", "", size, options.threads)
        for name in options.only:
            codes = [code for code, table in CODE.items() if name in table]
            times = rounds_of([CODE[code][name] for code in codes], size, options.rounds)
            for index, code in enumerate(codes):
                seconds = statistics.median(row[index] for row in times)
                ratio = statistics.median(row[0] / row[index] for row in times)
                memory = "-"
                if not options.no_memory:
                    memory = f"{peak_mib(code, name, size, options.threads) - floor:.0f}"
                line = f"{name:<16} {code:<10} {1e3 * seconds:8.1f} {ratio:8.2f} {memory:>7}"
                print(line, flush=True)
    for peer, reason in missing.items():
        print(f"{peer}: not measured ({reason})")


if __name__ == "__main__":
    main()
