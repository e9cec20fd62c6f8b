"""A process that compares mathematical expressions, with a time limit that holds everywhere."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

SECONDS = 60.0
"""Time that the process has for a comparison. Its own limit is shorter, and counts computing."""

START_SECONDS = 300.0
"""Time that the process has to start."""

REMEMBERED = 10_000
"""How many references are remembered to be readable."""

CHARACTERS = 2000
"""Length of the longest answer that is compared."""

WORKER = Path(__file__).with_name("math_worker.py")
# The folder of a script is put before all others in sys.path, and `numbers.py` there would hide a
# module of Python; so the script is run by its path, with the search path of this process.
START = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[2]);" \
        " runpy.run_path(sys.argv[1], run_name='__main__')"  # fmt: skip

Outcome = Literal["right", "wrong", "unreadable"]


def check_math_verify() -> None:
    """Raise an error if the package math-verify is not installed.

    Raises:
        ValueError: It is not installed.
    """
    if find_spec("math_verify") is None:
        raise ValueError(
            "the verifier 'math' needs the package math-verify: pip install 'kdlight[math]'"
        )


class MathProcess:
    """Compares expressions in another process, which is started when it is first needed.

    The package's own time limits are signals, which Python allows in the main thread only. Here the
    process ends when it takes too long, in any thread, and in the processes of a data loader. A
    process that was forked starts one of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._inherited: subprocess.Popen[str] | None = None
        self._readable: set[str] = set()  # references that can be compared

    def compare(self, reference: str, answer: str) -> Outcome:
        """Return how an answer compares with the reference, in LaTeX or not.

        An answer that is longer than `CHARACTERS`, or takes too long, is wrong. A reference that
        is not equal to itself, or takes too long beside 1, is unreadable.

        Raises:
            ValueError: The package is not installed, or the process does not start.
        """
        if len(reference) > CHARACTERS:
            return "unreadable"
        if len(answer) > CHARACTERS:
            return "wrong"
        with self._lock:
            outcome = self._ask_started(reference, answer) or "wrong"
            if outcome == "wrong" and not self._is_readable(reference):
                return "unreadable"  # or every answer would be wrong, without a word
            return outcome

    def _is_readable(self, reference: str) -> bool:
        """Return whether a reference is equal to itself and is compared in time."""
        if reference not in self._readable:
            forms = (rf"\boxed{{{reference}}}", reference)
            if not any(self._ask_started(reference, form) == "right" for form in forms):
                return False
            if self._ask_started(reference, r"\boxed{1}") is None:  # too large to be compared
                return False
            if len(self._readable) >= REMEMBERED:
                self._readable.clear()
            self._readable.add(reference)
        return True

    def _ask_started(self, reference: str, answer: str) -> Outcome | None:
        """Return the answer of the process, which is started if it does not run."""
        if self._process is None or self._process.poll() is not None:
            check_math_verify()
            self.close()
            try:
                self._start()
                right = self._ask("1", "1", START_SECONDS) == "right"  # imports the package
            except OSError:
                right = False
            if not right:
                self.close()
                raise ValueError(
                    "the process of math-verify did not start; run `import math_verify` with"
                    f" {sys.executable or 'this Python'} to see why"
                )
        return self._ask(reference, answer, SECONDS)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(WORKER), json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )

    def _ask(self, reference: str, answer: str, seconds: float) -> Outcome | None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        limit = threading.Timer(seconds, process.kill)
        limit.start()
        try:
            process.stdin.write(json.dumps([reference, answer]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline().strip()
        except OSError:  # the process has ended
            line = ""
        finally:
            limit.cancel()
        if not line:
            self.close()
        return line or None  # type: ignore[return-value]

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                try:
                    if pipe is not None:
                        pipe.close()
                except OSError:  # what was written has not been read
                    pass

    def forget(self) -> None:
        """Let a forked process start its own, and leave that of its parent alone."""
        self._inherited = self._process  # or it would be reported as one that nobody waits for
        self._lock, self._process = threading.Lock(), None


MATH = MathProcess()
atexit.register(MATH.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=MATH.forget)
