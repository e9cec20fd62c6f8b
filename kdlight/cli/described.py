"""What the code says of an objective: its docstring, its signature, and the configs that use it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml

import kdlight.configs
from kdlight import losses, objectives
from kdlight.cli.signatures import HyperParameter, hyper_parameters
from kdlight.objectives import OBJECTIVES, Divergence, Objective, TokenObjective, Weighted
from kdlight.objectives.paired_preference import PairedPreference
from kdlight.objectives.unpaired_preference import UnpairedPreference

BASES = (Objective, TokenObjective, Divergence)
"""What one derives an objective from."""

AUTHOR = r"[A-Z][\w'-]+(?: et al\.)?"
CITATION = re.compile(
    rf'(?P<authors>{AUTHOR}(?:, {AUTHOR})*), "(?P<title>[^"]+)", (?P<year>\d{{4}})\b'
)
"""How a paragraph of a docstring begins that names the paper."""


@dataclass(frozen=True)
class Source:
    """A paper."""

    authors: str
    title: str
    year: int

    def __str__(self) -> str:
        return f'{self.authors}, "{self.title}", {self.year}'


@dataclass(frozen=True)
class Described:
    """An objective.

    Attributes:
        name: its name in `OBJECTIVES`, or that of the class.
        class_name: its name in a config.
        text: the docstring up to its arguments; the first paragraph says what it is.
        formula: LaTeX, its own or that of the loss function; empty where it is made of others.
        loss: the function of `kdlight.losses` that the docstring names, if there is one.
        sources: the papers that the docstring names.
        hyper_parameters: what the constructor takes.
        needs: what a step must hold besides a student.
        callbacks: those that the docstring names.
        counts: the unit of its sum.
        configs: names of the configs that use it, its own first.
    """

    name: str
    class_name: str
    text: str
    formula: str
    loss: str
    sources: tuple[Source, ...]
    hyper_parameters: tuple[HyperParameter, ...]
    needs: tuple[str, ...]
    callbacks: tuple[str, ...]
    counts: str
    configs: tuple[str, ...]


def find_objectives() -> dict[str, Described]:
    """Every objective of `kdlight.objectives`: those with a name in `OBJECTIVES` first."""
    public = (getattr(objectives, name) for name in objectives.__all__)
    classes = [c for c in public if isinstance(c, type) and issubclass(c, Objective)]
    named = list(OBJECTIVES.items())
    named += [(c.__name__, c) for c in classes if c not in (*BASES, *OBJECTIVES.values())]
    used = find_configs()
    return {name: _describe(name, cls, used) for name, cls in named}


@dataclass(frozen=True)
class Method:
    """What comes from a paper and is no objective, such as a callback."""

    class_path: str
    text: str
    sources: tuple[Source, ...]
    configs: tuple[str, ...]


def find_methods() -> list[Method]:
    """All that configs name beside objectives, and that names a paper."""
    used = find_configs()
    paths = {path for paths in used.values() for path in paths if "objectives" not in path}
    classes = {path: locate(path) for path in sorted(paths) if path.startswith("kdlight.")}
    return [
        Method(
            class_path=path,
            text=_paragraphs(cls)[0],
            sources=find_sources(cls),
            configs=tuple(stem for stem, named in used.items() if path in named),
        )
        for path, cls in classes.items()
        if isinstance(cls, type) and find_sources(cls)
    ]


def find_configs() -> dict[str, set[str]]:
    """The class paths that each config names, by the name of the config."""
    return {path.stem: set(_class_paths(_read(path))) for path in sorted(FOLDER.glob("*.yaml"))}


FOLDER = Path(kdlight.configs.__path__[0]).resolve()


def find_sources(cls: type) -> tuple[Source, ...]:
    """The papers that a docstring names where a paragraph begins.

    >>> find_sources(objectives.ToDi)[0].year
    2025
    """
    found = map(CITATION.match, _paragraphs(cls))
    return tuple(Source(m["authors"], m["title"], int(m["year"])) for m in found if m)


def _paragraphs(cls: type) -> list[str]:
    return [" ".join(each.split()) for each in cleandoc(cls.__doc__ or "").split("\n\n")]


def _describe(name: str, cls: type[Objective], used: dict[str, set[str]]) -> Described:
    text = re.split(r"\n\n(?:Args|Raises|Example):\n", cleandoc(cls.__doc__ or ""))[0]
    found = re.search(r"`kdlight\.losses\.(\w+)`", text)
    loss = found[1] if found else ""
    parameters = tuple(hyper_parameters(cls))
    whole = cls if any(each.default is None for each in parameters) else cls()
    configs = [
        stem for stem, paths in used.items() if f"kdlight.objectives.{cls.__name__}" in paths
    ]
    return Described(
        name=name,
        class_name=cls.__name__,
        text=text,
        formula=_formula(text) or _formula(cleandoc(getattr(losses, loss, cls).__doc__ or "")),
        loss=loss,
        sources=find_sources(cls),
        hyper_parameters=parameters,
        needs=tuple(_needs(whole)),
        callbacks=tuple(dict.fromkeys(re.findall(r"`kdlight\.callbacks\.(\w+)", text))),
        counts=f"{whole.unit}s",
        configs=tuple(sorted(configs, key=lambda stem: (stem != name, stem))),
    )


def _formula(text: str) -> str:
    found = re.search(r"^\.\. math:: *(.*(?:\n +.*)*)", text, flags=re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def _needs(objective: Objective | type[Objective]) -> Iterable[str]:
    cls = objective if isinstance(objective, type) else type(objective)
    if cls is Weighted:
        yield "what its terms need"
        return
    if "teacher" in objective.needs:
        yield "teacher"
    if "labels" in objective.needs:
        yield "labels"
    if issubclass(cls, PairedPreference):
        yield "pairs of a right and a wrong trace"
    if issubclass(cls, UnpairedPreference):
        yield "right and wrong traces"
    if cls is objectives.SpanKL:
        yield "spans"


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _class_paths(node: Any) -> Iterable[str]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    if isinstance(node, dict) and "class_path" in node:
        yield node["class_path"]
    for each in inner:
        yield from _class_paths(each)
