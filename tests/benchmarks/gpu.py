"""What only a GPU can tell, in one table and at most eight minutes: ``make gpu``.

    python -m tests.benchmarks.gpu [--device cuda] [--output build/gpu] [--limit 440]

It needs python, torch and this checkout. What else is missing is installed, without a network, from
the wheels in ``build/wheels`` (``make wheels``, on a machine that has one) into a temporary folder.
Parts: tests with the marker ``gpu``; from hidden states to gradients at 8192 x 4096 x 128,256,
beside the peers that can be imported; tokens a second of the quick start's pair. Each part runs in
a process with a time limit, and what fails is a row with the reason. ``--device cpu`` tries all of
it at a small size.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.gpu_table import ROOT, Table, cell, outcome, run, test_name

WHEELS = ROOT / "build" / "wheels"
MODULES = ("lightning", "transformers", "jsonargparse", "omegaconf", "pytest", "hypothesis")
"""What has to be importable, or is installed."""

SHARES = {"tests": 0.35, "heads": 0.4, "step": 0.25}
"""Of the time limit; what a part leaves is for those after it."""

HEAD_CODES = ("ours", "ours, compiled", "plain", "matmuls alone", "trl chunked")
HEAD_CODES += ("liger triton jsd", "liger triton kl", "liger 1024, compiled")
HEAD_CODES += ("plain, compiled", "liger 1024", "trl")
"""What matters most comes first, as time may run out."""


def install(folder: Path) -> None:
    """Make importable what is not, from the carried wheels.

    Raises:
        RuntimeError: there are none, or they do not fit this Python.
    """
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if not missing:
        return
    wheels = sorted(map(str, WHEELS.glob("*.whl")))
    command = [sys.executable, "-m", "pip", "--quiet", "install", "--no-index", "--no-deps"]
    command += ["--no-compile", "--upgrade", "--target", str(folder), *wheels]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not wheels:
        reason = done.stderr.strip().splitlines()[-1:] if wheels else f"no wheels in {WHEELS}"
        raise RuntimeError(f"{missing} cannot be imported, nor installed: {reason}")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    )


def run_tests(options: argparse.Namespace, limit: float, table: Table) -> None:
    """Run the tests with the marker, a row for each and its parameters."""
    table.add("", "| test | result | seconds |", "| --- | --- | --: |")
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text()
    ]
    report = options.output / "tests.xml"
    report.unlink(missing_ok=True)
    command = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files]
    # versions of this machine may warn of what others do not
    command += ["-W", "default", f"--junitxml={report}", "-o", "addopts=--strict-markers"]
    output, error = run(command, limit)
    if not report.exists():
        last = [*output.strip().splitlines(), ""][-2 if output.strip() else -1]
        table.add(f"| all | {cell(error or last)} | |")
        return
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    for name in dict.fromkeys(test_name(case) for case in cases):
        same = [case for case in cases if test_name(case) == name]
        counts = Counter(outcome(case) for case in same)
        results = "; ".join(f"{count} {result}" for result, count in counts.items())
        seconds = sum(float(case.get("time", 0)) for case in same)
        table.add(f"| {name} | {results} | {seconds:.1f} |")


def run_heads(options: argparse.Namespace, limit: float, table: Table) -> None:
    """Measure each code in a process of its own, which no failure of another one spoils."""
    title = "| {} | ms | / plain | extra MiB | / plain |"
    found: dict[tuple[str, str], dict[str, Any]] = {}
    end = time.monotonic() + limit
    for code in HEAD_CODES:
        left = end - time.monotonic()
        command = ["-m", "tests.benchmarks.gpu_heads", code, "--device", options.device]
        command += ["--small"] if options.small else []
        output, error = run(command, min(left, 90)) if left > 5 else ("", "no time was left")
        for line in output.splitlines():
            if line.startswith("@"):
                result = json.loads(line[1:])
                found[result["objective"], code] = result
        if error:
            found.setdefault(("any", code), {"error": error})
    for objective in dict.fromkeys(key[0] for key in found):
        table.add("", title.format(f"heads, {objective}"), "| --- | --: | --: | --: | --: |")
        plain = found.get((objective, "plain"), {})
        for (other, code), result in found.items():
            if other != objective:
                continue
            if "error" in result:
                table.add(f"| {code} | {cell(result['error'])} | | | |")
                continue
            shares = [
                f"{result[key] / plain[key]:.2f}" if plain.get(key) else "" for key in ("ms", "mib")
            ]
            ms, mib = f"{result['ms']:.1f}", f"{result['mib']:.0f}"
            table.add(f"| {code} | {ms} | {shares[0]} | {mib} | {shares[1]} |")


def run_step(options: argparse.Namespace, limit: float, table: Table) -> None:
    """Whole steps of the quick start's pair, at its own batch and at one that fills a GPU."""
    sizes = [("quick start", ["--batch", "4", "--length", "128"])]
    sizes += [("bf16-mixed", ["--batch", "32", "--length", "512", "--precision", "bf16-mixed"])]
    if options.small:
        sizes = [("tiny", ["--size", "tiny", "--steps", "1", "--warmup", "1", "--length", "16"])]
    end = time.monotonic() + limit
    for number, (name, arguments) in enumerate(sizes):
        command = ["-m", "tests.benchmarks.bench_step", "--device", options.device]
        command += [*arguments, "--rounds", "1" if options.small else "3"]
        command += ["--threads", "1"] if options.small else ["--steps", "20", "--warmup", "5"]
        output, error = run(command, (end - time.monotonic()) / (len(sizes) - number))
        rows = [line for line in output.splitlines() if line.startswith("|")]
        table.add("", f"Step, {name}:", "", *rows, *([f"failed: {cell(error)}"] if error else []))


PARTS = {"tests": run_tests, "heads": run_heads, "step": run_step}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--limit", type=float, default=440, help="seconds for everything")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--full", action="store_true", help="the sizes of a GPU on a CPU, too")
    options = parser.parse_args(arguments)
    options.small = options.device == "cpu" and not options.full
    options.output = options.output.absolute()
    table = Table(options.output / "gpu.md")
    with tempfile.TemporaryDirectory() as site:  # not in the output: it is not to be brought back
        try:
            install(Path(site))
        except (RuntimeError, OSError) as error:
            table.add(f"nothing was run: {cell(str(error))}")
            return 1
        run_parts(options, table)
    return 0


def run_parts(options: argparse.Namespace, table: Table) -> None:
    """Run each part within its share of the time that is left."""
    start = time.monotonic()
    query = f"from tests.benchmarks.machine import header; print(header({options.device!r}))"
    output, error = run(["-c", query], 60)
    table.add(output.strip() or f"no header: {cell(error)}")
    for part in options.parts:
        later = options.parts[options.parts.index(part) :]
        left = options.limit - (time.monotonic() - start)
        limit = left * SHARES[part] / sum(SHARES[each] for each in later)
        try:
            PARTS[part](options, limit, table)
        except Exception as error:  # the other parts are worth having
            table.add("", f"{part} failed: {cell(f'{type(error).__name__}: {error}')}")
    table.add("", f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    sys.exit(main())
