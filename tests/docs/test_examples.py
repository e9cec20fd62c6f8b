"""Every public function and class has an example that runs as a doctest."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.site.rooms import is_class, names

ROOT = Path(__file__).parents[2]

# What needs more than a few lines, and the test that does it.
SHOWN_ELSEWHERE = {
    # a language model generates
    "kdlight.data.traces.responses.answer": "tests/data/traces/test_responses.py",
    "kdlight.data.traces.generate.generate_traces": "tests/data/traces/test_generate.py",
    # several ranks
    "kdlight.distributed.sharding.shard": "tests/distributed/test_strategies.py",
}


def public() -> Iterator[tuple[str, Any]]:
    """Yield public functions and classes by the module of their source, each once."""
    values = {
        f"{value.__module__}.{name}": value
        for _, name, value in names()
        if is_class(value) or inspect.isfunction(value)
    }
    yield from values.items()


def has_an_example(value: Any) -> bool:
    """Return whether its docstring, or for a class that of one of its methods, has an example."""
    members = vars(value).values() if inspect.isclass(value) else ()
    return any(">>> " in (each.__doc__ or "") for each in (value, *members))


def test_every_public_name_has_an_example() -> None:
    without = {name for name, value in public() if not has_an_example(value)}
    assert without == set(SHOWN_ELSEWHERE)
    assert all((ROOT / test).exists() for test in SHOWN_ELSEWHERE.values())


def test_a_missing_example_is_detected() -> None:
    def undocumented() -> None:
        """Do nothing."""

    assert not has_an_example(undocumented)


@pytest.mark.slow
def test_examples_run_in_every_room() -> None:
    """The examples of callbacks are among them, which pytest finds through a link."""
    options = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "kdlight" in options["testpaths"]
    assert "--doctest-modules" in options["addopts"]
    call = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "kdlight/callbacks"]
    collected = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "kdlight/callbacks/on_policy.py::kdlight.callbacks.on_policy.OnPolicy" in collected
