"""Losses that several ranks evaluate together, in one launch for all tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.divided_rows import SOME
from tests.support.rank_scripts import fit_on_ranks


@pytest.fixture(scope="session")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return the results of each of two ranks."""
    return _results(tmp_path_factory.mktemp("two"), ranks=2)


@pytest.fixture(scope="session")
def on_four(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return the results of each of four ranks."""
    return _results(tmp_path_factory.mktemp("four"), ranks=4, objectives=SOME)


def _results(folder: Path, *, ranks: int, objectives: Sequence[str] | None = None) -> list[Any]:
    script = "tests.support.divided_rows"
    results = fit_on_ranks(script, {"rows": {"objectives": objectives}}, folder, ranks=ranks)
    return [each["rows"] for each in results]
