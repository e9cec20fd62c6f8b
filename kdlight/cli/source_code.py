"""Classes and functions of kdlight as their source defines them, without importing them.

Importing an objective imports torch, which takes seconds. A list of objectives needs docstrings,
signatures and constants only, which are in the text of the source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SourceFile:
    """A Python file, parsed.

    Attributes:
        name: the dotted name that it is imported as.
        tree: its syntax tree.
        imports: the names that it imports: the module, and the name there.
        values: the expressions that are assigned to names.
        definitions: the classes and functions.
    """

    name: str
    tree: ast.Module
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    definitions: dict[str, ast.ClassDef | ast.FunctionDef] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, text: str) -> SourceFile:
        r"""Parse the text of a file.

        Example:
            >>> sorted(SourceFile.parse("a", "from b import c\nd = 1\n").imports)
            ['c']
        """
        file = cls(name, ast.parse(text))
        for statement in _statements(file.tree):
            if isinstance(statement, ast.ImportFrom):
                for each in statement.names:
                    file.imports[each.asname or each.name] = (statement.module or "", each.name)
            elif isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
                file.definitions[statement.name] = statement
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                file.values[statement.targets[0].id] = statement.value
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                file.values[ast.unparse(statement.target)] = statement.value
        return file


@dataclass(frozen=True)
class Definition:
    """A class or a function, and the file that defines it."""

    node: ast.ClassDef | ast.FunctionDef
    file: SourceFile

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    @property
    def doc(self) -> str:
        """Its docstring without indentation; empty if there is none."""
        return ast.get_docstring(self.node) or ""

    def lineage(self) -> Iterator[Definition]:
        """Yield a class and its base classes, as far as they are in kdlight."""
        yield self
        for base in getattr(self.node, "bases", ()):
            found = find_in(self.file, ast.unparse(base))
            if found is not None:
                yield from found.lineage()

    def attribute(self, name: str) -> Any:
        """Return the value of a class attribute that is a constant, which may be inherited."""
        for each in self.lineage():
            for statement in each.node.body:
                value = _assigned(statement, name)
                if value is not None:
                    return _constant(value)
        raise AttributeError(f"{self.name} has no attribute {name!r} in its source")

    def method(self, name: str) -> tuple[Definition, ast.FunctionDef] | None:
        """Return a method and the class that defines it, which may be a base class."""
        for each in self.lineage():
            for statement in each.node.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == name:
                    return each, statement
        return None


def find_in(file: SourceFile, name: str) -> Definition | None:
    """Return what a name stands for in a file; None for what is not defined in kdlight."""
    if name in file.definitions:
        return Definition(file.definitions[name], file)
    module, original = file.imports.get(name, ("", ""))
    return find(f"{module}.{original}") if module.startswith("kdlight") else None


def find(path: str) -> Definition | None:
    """Return a class or a function of kdlight by its dotted name; None if there is none.

    Example:
        >>> definition = find("kdlight.objectives.TAID")
        >>> definition.file.name
        'kdlight.objectives.taid'
    """
    module, _, name = path.rpartition(".")
    file = source_file(module)
    return None if file is None else find_in(file, name)


@cache
def source_file(name: str) -> SourceFile | None:
    """Return a module or a package of kdlight, parsed; None if there is none."""
    _, *parts = name.split(".")
    # only kdlight itself is imported to find a package in it, which may be elsewhere
    spec = find_spec(".".join(name.split(".")[:2]))
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if len(parts) > 1:
        path = path.parent.joinpath(*parts[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return SourceFile.parse(name, path.read_text(encoding="utf-8")) if path.is_file() else None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of a file, with those for type checkers only."""
    for statement in tree.body:
        yield from statement.body if isinstance(statement, ast.If) else (statement,)


def _assigned(statement: ast.stmt, name: str) -> ast.expr | None:
    targets = statement.targets if isinstance(statement, ast.Assign) else ()
    if isinstance(statement, ast.AnnAssign):
        targets = (statement.target,)
    named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return getattr(statement, "value", None) if named else None


def _constant(value: ast.expr) -> Any:
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "frozenset":
        return frozenset(ast.literal_eval(value.args[0])) if value.args else frozenset()
    return ast.literal_eval(value)
