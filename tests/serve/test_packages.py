"""A package that is missing is named, with the extra that has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdlight.serve import packages

ROOT = Path(__file__).parents[2]


def test_nothing_is_missing_here() -> None:
    packages.check_packages()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> Any:
        return None if name in ("uvicorn", "prometheus_client") else object()

    monkeypatch.setattr(packages, "find_spec", find_spec)
    expected = r"needs prometheus-client and uvicorn: pip install 'kdlight\[serve\]'"
    with pytest.raises(ModuleNotFoundError, match=expected):
        packages.check_packages()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["import kdlight.serve.app", "main(['serve', '--config', 'a'])"])
def test_one_sentence_names_it(words: str) -> None:
    code = (
        "import importlib.util as u, sys\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'uvicorn' else find(name, *more)\n"
        f"from kdlight.cli import main\n{words}"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert last.partition(": ")[2] == "kdlight serve needs uvicorn: pip install 'kdlight[serve]'"
    assert run.returncode == (2 if "main" in words else 1)
