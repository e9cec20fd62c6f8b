"""Docstrings of installed packages are read without an import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kdlight.data.docstrings import read_docstrings

LONG = "one two three four five six seven eight nine ten"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that cannot be imported."""
    folder = tmp_path / "kd_texts"
    (folder / "tests").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('not to be imported')")
    (folder / "a.py").write_text(
        f'"""Module: {LONG}."""\nclass A:\n    """Class: {LONG}."""\n'
        f'    def f(self):\n        """Method: {LONG}."""\n    def g(self):\n        """Short."""\n'
    )
    (folder / "b.py").write_text(f'def f():\n    """Module: {LONG}."""\n')  # there already
    (folder / "c.py").write_text(f'async def f():\n    """Another: {LONG}."""\n')
    (folder / "broken.py").write_text(f'"""Broken: {LONG}."""\ndef (')
    (folder / "tests" / "test_a.py").write_text(f'"""Test: {LONG}."""')
    monkeypatch.syspath_prepend(str(tmp_path))
    return "kd_texts"


def test_long_docstrings_of_all_files_are_read_once(package: str) -> None:
    files = read_docstrings(package, limit=100)
    texts = [text for file in files for text in file]
    assert sorted(text.split(":")[0] for text in texts) == ["Another", "Class", "Method", "Module"]
    assert sorted(map(len, files)) in ([1, 1, 2], [1, 3])  # b.py may come before a.py
    assert package not in sys.modules


def test_the_limit_and_the_seed(package: str) -> None:
    assert sum(map(len, read_docstrings(package, limit=2))) == 2
    first = read_docstrings("numpy", limit=5, seed=0)
    assert first == read_docstrings("numpy", limit=5, seed=0)
    assert first != read_docstrings("numpy", limit=5, seed=1)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        read_docstrings(package, limit=0)


@pytest.mark.parametrize("name", ["kd_not_installed", "torch.nn", "no name", ""])
def test_a_package_that_is_not_installed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="packages: no package"):
        read_docstrings(name, limit=3)
