"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of ``package``.

    The names are those that the package imports under ``if TYPE_CHECKING:``, so that they are
    listed once, where a type checker and an editor read them.

    Args:
        package: name of a package that is being imported.

    Example:
        >>> import kdlight
        >>> "ForwardKL" in kdlight.__all__, "Weighted" in kdlight.__all__
        (False, True)
    """
    module = sys.modules[package]
    assert module.__spec__ is not None
    source = module.__spec__.loader.get_source(package)  # type: ignore[union-attr]
    homes = {
        alias.asname or alias.name: (statement.module or "", alias.name)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    def resolve(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, attribute = homes[name]
        if home == package:
            return import_module(f"{home}.{attribute}")
        value = getattr(import_module(home), attribute)
        setattr(module, name, value)  # the next access does not come here again
        return value

    return resolve, lambda: sorted({*vars(module), *homes}), sorted(homes)
