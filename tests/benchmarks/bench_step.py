"""A whole training step of the quick start's pair: kdlight, TRL's GKDTrainer, Lightning by hand.

``python -m tests.benchmarks.bench_step [--rounds 5] [--only CODE ...] [--objective forward_kl]``

Each code trains in a process of its own and takes blocks of steps by turns: the same networks,
batches, precision, optimizer and clipping, and no logs. Peak memory is that of the process, with
networks, optimizer and libraries (on a GPU, what torch allocated). TRL needs ``make peers``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import torch

from tests.benchmarks.machine import header
from tests.benchmarks.step_codes import CODES
from tests.benchmarks.step_parts import add_sizes

HANDED_ON = ("objective", "size", "batch", "length", "precision", "device", "threads")
HANDED_ON += ("warmup", "steps")


class Worker:
    """A process that trains a block of steps on request."""

    def __init__(self, code: str, options: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.step_codes", code]
        for name in HANDED_ON:
            command += [f"--{name}", str(getattr(options, name))]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """The next message.

        Raises:
            RuntimeError: the process ended; the message is the last line of what it wrote.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        raise RuntimeError(lines[-1] if lines else f"exit code {self.process.returncode}")

    def block(self) -> float:
        """Seconds of a block of steps."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()["seconds"]

    def end(self) -> float:
        """Let the process end; its peak memory in MiB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        mib = self.answer()["mib"]
        self.process.wait()
        return mib

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds of the blocks and peak memory of each code, or why there are none."""
    workers = {code: Worker(code, options) for code in options.only}
    results: dict[str, dict[str, Any]] = {code: {"seconds": []} for code in workers}
    try:
        for turn in range(-1, options.rounds + 1):
            for code, worker in workers.items():
                if "error" in results[code]:
                    continue
                try:
                    if turn == -1:
                        worker.answer()  # it is ready
                    elif turn == options.rounds:
                        results[code]["mib"] = worker.end()
                    else:
                        results[code]["seconds"].append(worker.block())
                except (RuntimeError, BrokenPipeError) as error:
                    results[code]["error"] = str(error)
    finally:
        for worker in workers.values():
            worker.kill()
    return results


def table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> str:
    """The results in Markdown."""
    tokens = options.batch * options.length * options.steps
    lines = ["| code | tokens/s | kdlight / it (time) | peak MiB |", "| --- | --: | --: | --: |"]
    mine = results.get("kdlight", {})
    for code, found in results.items():
        if "error" in found:
            lines.append(f"| {code} | failed: {found['error'][:200]} | | |")
            continue
        speed = tokens / statistics.median(found["seconds"])
        ratio = ""
        if mine and "error" not in mine:
            pairs = zip(mine["seconds"], found["seconds"], strict=True)
            ratio = f"{statistics.median(a / b for a, b in pairs):.2f}"
        lines.append(f"| {code} | {speed:.0f} | {ratio} | {found['mib']:.0f} |")
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each code")
    parser.add_argument("--only", nargs="*", choices=CODES, default=list(CODES))
    add_sizes(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    print(header(options.device))
    what = f"{options.batch} x {options.length} tokens a step, {options.precision}"
    print(f"{options.objective}, {options.size}, {what}, blocks of {options.steps} steps")
    print(table(measure(options), options))


if __name__ == "__main__":
    main()
