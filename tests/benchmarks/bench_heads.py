"""From hidden states and output heads to loss and gradients: the chunked driver and its rivals.

``python -m tests.benchmarks.bench_heads [--quick] [--rounds 5] [--only CASE ...] [--memory none]``

Each case makes the gradients of the student's hidden states and head, of widths 256 and 512 for
student and teacher (``--widths``), from inputs that exist. "plain" is the textbook form: both
logits in full, ``log_softmax``, autograd. Times are medians of interleaved runs in one process, as
ratios to the columns named; peak memory is what a fresh process needs beyond its inputs. Peers are
measured where they can be imported (``make peers``). A line per case tells how our faster code
stands to the fastest of the others, and to the memory of plain torch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

import torch

from tests.benchmarks.fused_peers import Function, missing
from tests.benchmarks.head_cases import CASES, EVERY, MATMULS, TABLE, codes, step, work
from tests.benchmarks.machine import header
from tests.benchmarks.memory import extra_mib

MEMORY_GOAL = 0.10
"""Of the memory of plain torch, at N=2048 and V=32,000."""

SUMMARIZED = ("ours", "ours, compiled", "plain")
"""Codes whose memory the last line of a case needs."""


def functions(name: str, options: argparse.Namespace) -> dict[str, Function]:
    """The codes of a case."""
    return codes(
        CASES[name],
        device=options.device,
        chunk=options.chunk,
        compiled=not options.no_compiled,
        others=not options.ours_only,
    )


def sized(name: str, options: argparse.Namespace) -> tuple[int, int]:
    """The rows and the vocabulary of a case."""
    case = CASES[name]
    return (64, 512) if options.quick else (case.rows, case.vocabulary)


def peak_mib(name: str, code: str, options: argparse.Namespace) -> float:
    """What a fresh process needs beyond its inputs, in MiB."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_heads", "--peak", name, code]
    command += ["--threads", str(options.threads), "--chunk", str(options.chunk or 0)]
    command += ["--widths", *map(str, options.widths), "--device", options.device]
    command += ["--quick"] if options.quick else []
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])  # peers talk as they are imported


def measure_peak(name: str, code: str, options: argparse.Namespace) -> float:
    """The same in this process."""
    rows, vocabulary = sized(name, options)
    case = CASES[name]._replace(rows=rows, vocabulary=vocabulary)
    data = work(case, tuple(options.widths), options.device)
    function = functions(name, options)[code]
    if "compiled" in code:  # compiling takes memory of its own, once
        step(function, data)
    else:  # threads and kernels are set up
        step(function, work(case._replace(rows=8), tuple(options.widths), options.device))
    peaks = []
    # the smallest counts: now and then a step compiles once more, or the C library keeps blocks
    for _ in range(3):
        data.hidden.grad = data.weight.grad = None
        peaks.append(extra_mib(lambda: step(function, data), options.device))
    return min(peaks)


def measure(name: str, options: argparse.Namespace) -> None:
    """Measure a case, and print its rows and its summary."""
    rows, vocabulary = sized(name, options)
    case = CASES[name]._replace(rows=rows, vocabulary=vocabulary)
    found = functions(name, options)
    data = work(case, tuple(options.widths), options.device)
    turns = [
        {code: step(function, data) for code, function in found.items()}
        for _ in range(options.rounds + 1)
    ][1:]
    print(f"\n{name}: {case.objective}, {case.dtype}, N={rows}, V={vocabulary}")
    print(f"{'code':<22} {'ms':>8} {'/ plain':>8} {'ours/it':>8} {'MiB':>7}")
    base = MATMULS if options.ours_only else "plain"
    memory: dict[str, float] = {}
    for code in found:
        mine = "ours, compiled" if "compiled" in code else "ours"
        needed = code in SUMMARIZED or (options.memory == "all" and name not in EVERY)
        if needed and options.memory != "none":
            memory[code] = peak_mib(name, code, options)
        mib = f"{memory[code]:.0f}" if code in memory else "-"
        milliseconds = 1e3 * statistics.median(turn[code] for turn in turns)
        to_base, to_mine = ratio(turns, code, base), ratio(turns, mine, code)
        print(f"{code:<22} {milliseconds:8.1f} {to_base:8.2f} {to_mine:8.2f} {mib:>7}", flush=True)
    if options.quick:
        print("-> a trial: these sizes are too small to judge by", flush=True)
    elif not options.ours_only:
        print(summary(turns, memory), flush=True)


def ratio(turns: list[dict[str, float]], first: str, second: str) -> float:
    """The median over the turns of the time of one code in that of another."""
    return statistics.median(turn[first] / turn[second] for turn in turns)


def summary(turns: list[dict[str, float]], memory: dict[str, float]) -> str:
    """How the faster of our codes stands to the fastest other one, and to plain torch's memory.

    >>> turns = [{"ours": 1.0, "matmuls alone": 0.5, "plain": 2.0, "trl": 1.6}]
    >>> summary(turns, {"ours": 30.0, "plain": 200.0})
    '-> ours: 0.62 of the time of trl, 0.15 of the memory of plain (goal 0.10): memory is above'
    """
    medians = {code: statistics.median(turn[code] for turn in turns) for code in turns[0]}
    mine = min((code for code in medians if code.startswith("ours")), key=medians.__getitem__)
    others = [code for code in medians if not code.startswith(("ours", MATMULS))]
    best = min(others, key=medians.__getitem__)
    time = ratio(turns, mine, best)
    line = f"-> {mine}: {time:.2f} of the time of {best}"
    faults = ["slower"] if time > 1 else []
    if mine in memory and "plain" in memory:
        share = memory[mine] / max(memory["plain"], 1e-3)
        line += f", {share:.2f} of the memory of plain (goal {MEMORY_GOAL:.2f})"
        faults += ["memory is above"] if share > MEMORY_GOAL else []
    return f"{line}: {' and '.join(faults) or 'PASS'}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=CASES, default=[*TABLE, *EVERY])
    parser.add_argument("--chunk", type=int, default=None, help="tokens of a chunk of ours")
    parser.add_argument("--widths", nargs=2, type=int, default=[256, 512])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--memory",
        choices=("all", "goals", "none"),
        default="all",
        help="of all codes in the first cases; of ours and plain; of none",
    )
    parser.add_argument("--no-compiled", action="store_true")
    parser.add_argument(
        "--ours-only", action="store_true", help="beside the bare matmuls in place of plain torch"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a trial: 64 tokens, 512 entries, one round, nothing compiled, no memory",
    )
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "CODE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.chunk = options.chunk or None
    if options.quick:
        options.rounds, options.memory, options.no_compiled = 1, "none", True
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.peak:
        name, code = options.peak
        print(measure_peak(name, code, options))
        return
    print(header(options.device))
    for name in options.only:
        measure(name, options)
    for peer, reason in missing.items():
        print(f"{peer}: not measured ({reason})")


if __name__ == "__main__":
    main()
