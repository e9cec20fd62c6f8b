"""The shape of the package: what is installed, what a name resolves to, who may import whom."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

import kdlight
from kdlight import callbacks
from kdlight.objectives import OBJECTIVES
from tests.support.reference import REFERENCE

ROOT = Path(__file__).parents[1]
LINKED = ("callbacks", "configs")  # folders at the top that import as kdlight.NAME

# Lowest first: a room may import itself and the rooms of the lines before its own.
ORDER = (
    ("checks", "lazy"),
    ("losses", "schedules", "features", "quantization"),
    ("sources",),
    ("reduce",),
    ("distributed",),
    ("objectives",),
    ("testing",),
    ("models", "endpoints"),
    ("teachers", "rollouts"),
    ("checkpoints", "data", "metrics"),
    ("ranking",),
    ("vocabulary",),
    ("cache",),
    ("remote",),
    ("modules",),
    ("serve",),
    ("doctor",),
    ("export",),
    ("callbacks",),
    ("configs",),
    ("cli",),
    ("__main__",),
)
# Source files without a test at the mirrored path, and where they are tested.
TESTED_ELSEWHERE = {
    "__main__.py": "tests/cli/test_main.py runs `python -m kdlight`",
    "cli/__main__.py": "tests/cli/test_main.py runs `python -m kdlight.cli`",
}

MAY_SEE = {
    room: {room} | {below for lower in ORDER[:level] for below in lower}
    for level, rooms in enumerate(ORDER)
    for room in rooms
}

# No loss hangs on a framework: these it may not import, not even inside a function.
NOT_IN_LOSSES = {"jsonargparse", "lightning", "omegaconf", "torchmetrics", "transformers"}


def sources() -> Iterator[tuple[str, Path]]:
    """Every source file of the package, under the dotted name it imports as."""
    for top in ("", *LINKED):
        folder = ROOT / (top or "kdlight")
        for parent, _, names in os.walk(folder):  # does not follow links
            for path in (Path(parent, name) for name in names if name.endswith(".py")):
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join(filter(None, ("kdlight", top, *parts))), path


def imported(tree: ast.AST) -> Iterator[str]:
    """Full dotted names of all that a file imports, wherever in the file it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def faults(room: str, source: str) -> list[str]:
    """What breaks the import rules in a file of ``room``."""
    found, tree = [], ast.parse(source)
    for name in imported(tree):
        top, _, rest = name.partition(".")
        if name.startswith("."):
            found.append(f"{name}: imports are absolute")
        elif top in LINKED:
            found.append(f"{name}: import kdlight.{top}, or there are two of each class")
        elif top == "kdlight" and rest.split(".")[0] not in MAY_SEE[room]:
            found.append(f"{name}: {room} may see {sorted(MAY_SEE[room])}")
        elif room == "losses" and (top in NOT_IN_LOSSES or name == "torch.nn.Module"):
            found.append(f"{name}: a loss is a function of tensors")
    if room == "losses":
        attributes = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        found += [f"nn.{a}: a loss is a function of tensors" for a in attributes if a == "Module"]
    return found


def test_the_package_list_is_what_is_on_disk() -> None:
    setup = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    names = (name.removesuffix(".__init__") for name, path in sources() if path.stem == "__init__")
    assert sorted(setup["packages"]) == sorted(names)
    assert setup["package-dir"] == {f"kdlight.{name}": name for name in LINKED}


def test_every_folder_of_sources_is_a_package() -> None:
    assert [path for _, path in sources() if not (path.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", LINKED)
def test_a_link_leads_to_the_folder_at_the_top(name: str) -> None:
    link = ROOT / "kdlight" / name
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_a_callback_knows_one_name_for_its_home() -> None:
    classes = [value for value in vars(callbacks).values() if inspect.isclass(value)]
    assert classes
    assert all(each.__module__.startswith("kdlight.callbacks.") for each in classes)


@pytest.mark.parametrize(
    ("room", "path"),
    [
        pytest.param(name.split(".")[1], path, id=name)
        for name, path in sorted(sources())
        if name != "kdlight.__init__"
    ],
)
def test_imports_point_one_way(room: str, path: Path) -> None:
    assert room in MAY_SEE, f"{path.name} is in no room: give it a line in ORDER"
    assert faults(room, path.read_text()) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("losses", "from kdlight.objectives import LossInputs"),
        ("losses", "from kdlight import objectives"),
        ("losses", "def f():\n    import lightning.pytorch"),
        ("losses", "from torch.nn import Module"),
        ("losses", "from torch import nn\nclass A(nn.Module): ..."),
        ("sources", "import kdlight.reduce"),
        ("modules", "from kdlight import DistillationModule"),
        ("callbacks", "from ..schedules import taid_step"),
        ("cli", "from callbacks import AdaptiveTAID"),
    ],
)
def test_a_wrong_import_is_seen(room: str, source: str) -> None:
    assert len(faults(room, source)) == 1


def test_every_source_file_has_its_test_at_the_mirrored_path() -> None:
    """The test of kdlight/a/b.py is tests/a/test_b.py.

    A new method may do without: tests/losses/test_losses.py runs over all losses that have a
    reference, tests/objectives/test_laws.py over all objectives.
    """
    in_tables = {f"losses/{name}.py" for name in REFERENCE}
    in_tables |= {f"{each.__module__.replace('.', '/')[8:]}.py" for each in OBJECTIVES.values()}
    missing = []
    for name, path in sources():
        if path.name == "__init__.py":
            continue
        *folders, file = name.split(".")[1:]
        mirrored = ROOT.joinpath("tests", *folders, f"test_{file}.py")
        if not mirrored.exists() and "/".join((*folders, path.name)) not in {
            *TESTED_ELSEWHERE,
            *in_tables,
        }:
            missing.append(mirrored.relative_to(ROOT).as_posix())
    assert missing == []


def imported_files(name: str, path: Path, known: set[str]) -> set[str]:
    """The files of the package that a file imports, wherever it does so, by dotted name."""
    files = set()
    for target in imported(ast.parse(path.read_text())):
        owner = target.rpartition(".")[0]
        module = target if target in known else owner
        if module in known and module != name:
            files.add(module)
        elif f"{module}.__init__" in known:
            files.add(f"{module}.__init__")
    return files


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The files of a circle of imports, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            found = visit(target, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        found = visit(name, [])
        if found:
            return found
    return []


def test_no_import_goes_in_a_circle() -> None:
    """Imports for type checkers and inside functions count, too.

    A package's own `__init__` re-exports its files and is left out when they import each other.
    """
    files = dict(sources())
    graph = {}
    for name, path in files.items():
        room = ".".join(name.split(".")[:-1])
        if name in ("kdlight.__init__", "kdlight.lazy"):
            continue
        targets = imported_files(name, path, set(files))
        graph[name] = {t for t in targets if t not in (f"{room}.__init__", "kdlight.__init__")}
    assert circle(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_every_public_name_resolves() -> None:
    assert set(vars(kdlight)["__all__"]) <= set(dir(kdlight))
    for name in vars(kdlight)["__all__"]:
        assert getattr(kdlight, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(kdlight, "no_such_name")  # noqa: B009


@pytest.mark.parametrize(
    ("statement", "left_out"),
    [
        ("import kdlight", {"torch", "lightning", "transformers", "ot", "jsonargparse"}),
        (
            "from kdlight import losses, objectives",
            {"lightning", "transformers", "ot", "jsonargparse", "omegaconf"},
        ),
    ],
)
def test_importing_is_quick(statement: str, left_out: set[str]) -> None:
    code = f"{statement}\nimport sys; print(*sorted({left_out!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
