"""Docstrings of installed packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from kdlight.checks import check_integer
from kdlight.data.splits import shuffle

MIN_WORDS = 10
WORD = re.compile(r"[a-z]+")


def read_docstrings(package: str, *, limit: int, seed: int = 0) -> list[list[str]]:
    """Return docstrings of an installed package, those of each file in a list of their own.

    The package is not imported. Files come in random order until there are ``limit`` docstrings of
    at least 10 words. Tests are left out, and so are repeated docstrings.

    Args:
        package: its name.
        limit: number of docstrings, at most; at least 1.
        seed: seed of the order of the files.

    Raises:
        ValueError: If no such package is installed, or the limit is below 1.

    Example:
        >>> files = read_docstrings("numpy", limit=5)
        >>> sum(map(len, files))
        5
    """
    check_integer("limit", limit, 1)
    seen: set[str] = set()
    files = []
    for path in shuffle(_source_files(package), seed=seed):
        texts = [t for t in dict.fromkeys(_docstrings(path)) if t not in seen]
        texts = texts[: limit - len(seen)]
        seen.update(texts)
        if texts:
            files.append(texts)
        if len(seen) >= limit:
            break
    return files


def _source_files(package: str) -> list[Path]:
    spec = find_spec(package) if package.isidentifier() else None  # which does not import it
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"packages: no package {package!r} is installed; install it or leave it out"
        )
    roots = [Path(each) for each in spec.submodule_search_locations]
    names = [
        (path.relative_to(root).as_posix(), path) for root in roots for path in root.rglob("*.py")
    ]
    return [path for name, path in sorted(names) if "test" not in name]


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, or code for another version of Python
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(WORD.findall(text.lower())) >= MIN_WORDS:
                yield text
