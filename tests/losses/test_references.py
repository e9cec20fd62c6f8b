"""Nothing is called by a name that it no longer has: what stands in backticks is there.

In a docstring single backticks name something; double ones are code, and only what begins with
``kdlight.`` is looked up. In a text of Markdown both are code.
"""

from __future__ import annotations

import ast
import builtins
import pydoc
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.site.rooms import homes
from tests.site.texts import TEXTS

ROOT = Path(__file__).parents[2]
FOLDERS = ("kdlight", "callbacks", "configs", "tests", "notebooks")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)*(\(\))?")
NAMED = re.compile(r"(?<!`)`([^`]+)`(?!`)")
CODE = re.compile(r"``(kdlight\.[\w.]+)(?:\(\))?``")
PATHS = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./]*|[A-Z]+\.md)`")


def modules() -> Iterator[tuple[str, Path]]:
    """Every source file by the name it is imported as."""
    for folder, top in (("kdlight", ""), ("callbacks", "kdlight.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.parts[len(ROOT.parts) + 1] not in ("callbacks", "configs", "__main__.py"):
                name = top + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                yield name.removesuffix(".__init__"), path


def docstrings(tree: ast.Module) -> Iterator[tuple[list[str], str]]:
    """The names that lead to each docstring, and the docstring."""
    todo: list[tuple[list[str], ast.AST]] = [([], tree)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield path, ast.get_docstring(node) or ""
            for child in ast.iter_child_nodes(node):
                if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                    todo.append(([*path, child.name], child))


def there(name: str, module: str, path: list[str]) -> bool:
    """Whether ``name`` means something in a docstring of ``module``, at ``path`` in it."""
    name = name.removesuffix("()")
    head, _, rest = name.partition(".")
    spaces: list[object] = [import_module(module), builtins]
    for part in path:
        spaces.append(getattr(spaces[-1] if len(spaces) > 2 else spaces[0], part, None))
    if head in homes():
        spaces.append(import_module(homes()[head]))
    found = any(follow(space, name) for space in spaces)
    return found or pydoc.locate(name) is not None


def follow(space: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(space, part):
            return part in getattr(space, "__annotations__", {})
        space = getattr(space, part)
    return True


def dead(module: str, source: str) -> list[str]:
    """The names in the docstrings of a module that lead nowhere."""
    found = []
    for path, text in docstrings(ast.parse(source)):
        text = re.sub(r":math:`[^`]*`", "", text)
        named = [name for name in NAMED.findall(text) if DOTTED.fullmatch(name)]
        named += CODE.findall(text)
        found += [f"{'.'.join(path)}: {name}" for name in named if not there(name, module, path)]
    return found


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=list(dict(modules())))
def test_what_a_docstring_names_is_there(module: str, path: Path) -> None:
    assert dead(module, path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "docstring",
    [
        "See `forward_k`.",
        "See `kdlight.losses.fkl`.",
        "``kdlight.cli.run()``",
        "`LossInputs.negatives`",
    ],
)
def test_a_dead_name_is_seen(docstring: str) -> None:
    assert len(dead("kdlight.objectives.base", f'def f():\n    """{docstring}"""')) == 1


@pytest.mark.parametrize("name", TEXTS.values())
def test_what_a_text_names_is_there(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / name).read_text("utf-8"), flags=re.M | re.S)
    text = re.sub(r"^\| `[^|]*\|", "|", text, flags=re.M)  # a table of names begins with old ones
    code = [each for each in NAMED.findall(text) if re.fullmatch(r"kdlight\.[\w.]+", each)]
    assert [each for each in code if pydoc.locate(each) is None] == []
    new = re.findall(r"^`([\w/.]+)`:$", text, flags=re.MULTILINE)  # a reader shall write these
    lost = [path for path in PATHS.findall(text) if not (ROOT / path).exists()]
    assert [path for path in lost if path not in new] == []
