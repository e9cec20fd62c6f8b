"""Descriptions of objectives and other methods, from docstrings, signatures and configs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kdlight.configs
from kdlight.cli.config_files import read_config
from kdlight.cli.papers import Paper, find_papers, paragraphs
from kdlight.cli.signatures import HyperParameter, hyper_parameters
from kdlight.cli.source_code import Definition, find, find_in, source_file

CONFIGS = Path(kdlight.configs.__path__[0]).resolve()

BASES = ("Objective", "TokenObjective", "Divergence", "FeatureObjective", "BatchObjective")
"""Base classes, which are not listed."""

NEEDS = {
    "teacher": "teacher",
    "labels": "labels",
    "rejected": "pairs of a chosen and a rejected trace",
    "span_ids": "spans",
}
"""Words for the names in `Objective.needs`; other names are shown as they are."""


@dataclass(frozen=True)
class ObjectiveDescription:
    """The description of an objective.

    Attributes:
        name: its name in `OBJECTIVES`, or the name of the class.
        class_name: its name in a config.
        text: the docstring without arguments and examples.
        formula: LaTeX, from its docstring or that of the loss function; empty if there is none.
        loss: the function of `kdlight.losses` that the docstring names; empty if there is none.
        sources: the papers that the docstring cites.
        hyper_parameters: the arguments of the constructor.
        needs: what `LossInputs` must contain besides the student.
        callbacks: the callbacks that the docstring names.
        counts: the unit that the loss is averaged over.
        configs: names of the configs that use it, its own first.
    """

    name: str
    class_name: str
    text: str
    formula: str
    loss: str
    sources: tuple[Paper, ...]
    hyper_parameters: tuple[HyperParameter, ...]
    needs: tuple[str, ...]
    callbacks: tuple[str, ...]
    counts: str
    configs: tuple[str, ...]


@dataclass(frozen=True)
class MethodDescription:
    """The description of a method that is not an objective, such as a callback."""

    class_path: str
    text: str
    sources: tuple[Paper, ...]
    configs: tuple[str, ...]


def find_objectives() -> dict[str, ObjectiveDescription]:
    """Describe every objective of `kdlight.objectives`, those in ``OBJECTIVES`` first.

    Example:
        >>> find_objectives()["taid"].class_name
        'TAID'
    """
    room = source_file("kdlight.objectives")
    assert room is not None
    table = room.values["OBJECTIVES"]
    assert isinstance(table, ast.Dict)
    keys = (ast.literal_eval(key) for key in table.keys if key is not None)
    named = dict(zip(keys, map(ast.unparse, table.values), strict=True))
    public = ast.literal_eval(room.values["__all__"])
    named |= {name: name for name in public if name not in (*BASES, *named.values())}
    configs = find_configs()
    definitions = ((name, find_in(room, cls)) for name, cls in named.items())
    return {
        name: _describe(name, definition, configs)
        for name, definition in definitions
        if definition is not None and _is_objective(definition)
    }


def find_methods() -> list[MethodDescription]:
    """Describe every class that a config uses, cites a paper and is not an objective."""
    configs = find_configs()
    paths = {path for used in configs.values() for path in used if "objectives" not in path}
    classes = {path: find(path) for path in sorted(paths) if path.startswith("kdlight.")}
    return [
        MethodDescription(
            class_path=path,
            text=paragraphs(cls.doc)[0],
            sources=find_papers(cls.doc),
            configs=tuple(name for name, used in configs.items() if path in used),
        )
        for path, cls in classes.items()
        if cls is not None and find_papers(cls.doc)
    ]


def find_configs() -> dict[str, set[str]]:
    """Return the class paths that each config uses, with those of its bases.

    Example:
        >>> "kdlight.objectives.TAID" in find_configs()["taid"]
        True
    """
    return {
        path.stem: set(_class_paths(read_config(path))) for path in sorted(CONFIGS.glob("*.yaml"))
    }


def _is_objective(cls: Definition) -> bool:
    return any(each.name == "Objective" for each in cls.lineage())


def _describe(name: str, cls: Definition, configs: dict[str, set[str]]) -> ObjectiveDescription:
    text = re.split(r"\n\n(?:Args|Raises|Example):\n", cls.doc)[0]
    loss_name = re.search(r"`kdlight\.losses\.(\w+)`", text)
    loss = loss_name[1] if loss_name else ""
    function = find(f"kdlight.losses.{loss}") if loss else None
    used_by = [stem for stem, paths in configs.items() if f"kdlight.objectives.{cls.name}" in paths]
    return ObjectiveDescription(
        name=name,
        class_name=cls.name,
        text=text,
        formula=_formula(text) or _formula(function.doc if function else ""),
        loss=loss,
        sources=find_papers(cls.doc),
        hyper_parameters=tuple(hyper_parameters(cls)),
        needs=_needs(cls),
        callbacks=tuple(dict.fromkeys(re.findall(r"`kdlight\.callbacks\.(\w+)", text))),
        counts=f"{cls.attribute('unit')}s",
        configs=tuple(sorted(used_by, key=lambda stem: (stem != name, stem))),
    )


def _formula(text: str) -> str:
    math = re.search(r"^\.\. math:: *(.*(?:\n +.*)*)", text, flags=re.MULTILINE)
    return " ".join(math[1].split()) if math else ""


def _needs(cls: Definition) -> tuple[str, ...]:
    if cls.name == "Weighted":
        return ("what its terms need",)
    needs = cls.attribute("needs")
    order = [*NEEDS, *sorted(needs - NEEDS.keys())]
    return tuple(str(NEEDS.get(name, name)) for name in order if name in needs)


def _class_paths(node: Any) -> Iterator[str]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    if isinstance(node, dict) and "class_path" in node:
        yield node["class_path"]
    for value in values:
        yield from _class_paths(value)
