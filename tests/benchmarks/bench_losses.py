"""Each loss beside the three lines one would write without a library: forward and backward.

``python tests/benchmarks/bench_losses.py [--threads 2] [--rounds 7] [--only NAME ...] [--size NxV ...]``

Times are medians of interleaved runs, so that a busy machine slows both columns alike. Peak memory is
the resident set of a fresh process that runs one function once, less that of a process that only
makes its inputs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch  # noqa: E402
from peers import PEERS, missing  # noqa: E402
from plain import PLAIN  # noqa: E402
from torch import Tensor  # noqa: E402

from kdlight import losses  # noqa: E402

SIZES = ((4096, 1000), (512, 32000))

OURS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
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
CODE = {"ours": OURS, "plain": PLAIN, **PEERS}


def inputs(rows: int, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(rows, vocabulary, generator=generator).mul_(2).requires_grad_()
    teacher = torch.randn(rows, vocabulary, generator=generator).mul_(2)
    return student, teacher, torch.randint(vocabulary, (rows,), generator=generator)


def step(function: Callable[..., Tensor], student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    student.grad = None
    start = time.perf_counter()
    function(student, teacher, labels).mean().backward()
    return time.perf_counter() - start


def medians(functions: list[Callable[..., Tensor]], size: tuple[int, int], rounds: int) -> list[float]:
    """The median seconds of each function, run in turns after a round that warms up."""
    arguments = inputs(*size)
    times = [[step(f, *arguments) for f in functions] for _ in range(rounds + 1)]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def peak_mib(code: str, name: str, size: tuple[int, int], threads: int) -> float:
    """The peak resident memory of a fresh process, in MiB."""
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", code, name]
    command += ["--size", "x".join(map(str, size))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


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
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    for size in sizes:
        print(f"\nN={size[0]} V={size[1]} float32, {options.threads} threads")
        print(f"{'loss':<16} {'code':<10} {'ms':>8} {'ours/it':>8} {'MiB':>7}")
        floor = 0.0 if options.no_memory else peak_mib("nothing", "", size, options.threads)
        for name in options.only:
            codes = [code for code, table in CODE.items() if name in table]
            times = medians([CODE[code][name] for code in codes], size, options.rounds)
            for code, seconds in zip(codes, times, strict=True):
                peak = 0.0 if options.no_memory else peak_mib(code, name, size, options.threads)
                memory = "-" if options.no_memory else f"{peak - floor:.0f}"
                ratio = times[0] / seconds
                print(f"{name:<16} {code:<10} {1e3 * seconds:8.1f} {ratio:8.2f} {memory:>7}", flush=True)
    for peer, reason in missing.items():
        print(f"{peer}: not measured ({reason})")


if __name__ == "__main__":
    main()
