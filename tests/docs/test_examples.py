"""Every public function and class shows how it is used, in an example that runs as a doctest."""

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

# What three lines cannot show, and which test does.
SHOWN_ELSEWHERE = {
    "kdlight.data.traces.generate.answer": "a language model answers: tests/data/traces/test_generate.py",
    "kdlight.data.traces.generate.generate_traces": "likewise",
    "kdlight.distributed.sharding.shard": "several ranks do it: tests/distributed/test_strategies.py",
}


def public() -> Iterator[tuple[str, Any]]:
    """Public functions and classes by the place of their source, each once."""
    found = {
        f"{value.__module__}.{name}": value
        for _, name, value in names()
        if is_class(value) or inspect.isfunction(value)
    }
    yield from found.items()


def shows_an_example(value: Any) -> bool:
    """In its docstring, or for a class in that of one of its own methods."""
    members = vars(value).values() if inspect.isclass(value) else ()
    return any(">>> " in (each.__doc__ or "") for each in (value, *members))


def test_what_is_public_shows_an_example() -> None:
    without = {name for name, value in public() if not shows_an_example(value)}
    assert without == set(SHOWN_ELSEWHERE)


def test_one_without_an_example_is_seen() -> None:
    def silent() -> None:
        """Says nothing."""

    assert not shows_an_example(silent)


@pytest.mark.slow
def test_examples_run_in_every_room() -> None:
    """Those of callbacks too, which pytest reaches by a link."""
    options = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "kdlight" in options["testpaths"]
    assert "--doctest-modules" in options["addopts"]
    call = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "kdlight/callbacks"]
    found = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (
        "kdlight/callbacks/ramp.py::kdlight.callbacks.hyperparameter_scheduler.HyperparameterScheduler"
        in found
    )
