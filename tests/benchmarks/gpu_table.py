"""The table of `gpu.py`: rows that are kept, parts that may fail, texts that fit into a cell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Table:
    """The rows, written to a file after each part, so that nothing is lost at a time limit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, *lines: str) -> None:
        """Print and keep lines."""
        print(*lines, sep="\n", flush=True)
        self.lines += lines
        self.path.write_text("\n".join(self.lines) + "\n")


def run(command: list[str], limit: float) -> tuple[str, str]:
    """What Python printed, and why it failed, if it did; what it started ends with it."""
    found = os.environ.get("PYTHONPATH")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), found]))}
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=variables,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=max(limit, 1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return output, f"stopped after {limit:.0f} s"
    last = [line.strip() for line in errors.splitlines() if line.strip()][-1:]
    return output, "" if process.returncode == 0 else " ".join(last) or "failed"


def test_name(case: ElementTree.Element) -> str:
    """The name of a test without its parameters."""
    return f"{case.get('classname', '').split('.')[-1]}::{case.get('name', '').split('[')[0]}"


def outcome(case: ElementTree.Element) -> str:
    """Passed, or what pytest says."""
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            name = case.get("name", "")
            where = "" if kind == "skipped" or "[" not in name else f" [{name.split('[', 1)[1]}"
            return f"{kind}{where}: {cell(found.get('message', ''))}"
    return "passed"


def cell(text: str) -> str:
    """A text that fits into a cell of a table."""
    return " ".join(text.replace("|", "/").split())[:200]
