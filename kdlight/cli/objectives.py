"""``kdlight objectives`` and ``kdlight objectives NAME``: list the objectives, or describe one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill

from jsonargparse import ArgumentParser

from kdlight.cli.descriptions import (
    CONFIGS,
    MethodDescription,
    ObjectiveDescription,
    find_methods,
    find_objectives,
)
from kdlight.cli.errors import one_line_errors
from kdlight.cli.signatures import HyperParameter

MAX_WIDTH = 100
"""Longer lines are hard to read, even in a wider terminal."""

NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def objectives(args: list[str]) -> None:
    """List the objectives, or describe one; an unknown name exits with one line and code 2."""
    parser = ArgumentParser(
        prog="kdlight objectives", description="List the objectives, or describe one."
    )
    parser.add_argument("name", type=str | None, nargs="?", help="Describe this one in full.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    options = parser.parse_args(args)
    known = find_objectives()
    with one_line_errors():
        shown = [_find(options.name, known)] if options.name else list(known.values())
    if options.json:
        print(json.dumps([asdict(each) for each in shown], indent=2))
    elif options.name:
        print("\n".join(_full(shown[0])))
    else:
        print("\n".join(_list(shown, find_methods())))


def _find(name: str, known: dict[str, ObjectiveDescription]) -> ObjectiveDescription:
    by_name = {
        _normalized(key): each for each in known.values() for key in (each.name, each.class_name)
    }
    if _normalized(name) in by_name:
        return by_name[_normalized(name)]
    close = get_close_matches(_normalized(name), by_name)
    names = dict.fromkeys(by_name[key].name for key in close)
    hint = f"did you mean {' or '.join(names)}?" if names else f"known: {', '.join(known)}"
    raise ValueError(f"unknown objective {name!r}; {hint}")


def _normalized(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _list(
    objectives: list[ObjectiveDescription], methods: list[MethodDescription]
) -> Iterator[str]:
    for each in objectives:
        yield each.name if each.name == each.class_name else f"{each.name}  ({each.class_name})"
        yield _wrap(_words(each.text.split("\n\n")[0]), 4)
        yield _wrap(", ".join(map(_unbroken, each.hyper_parameters)) or "no hyper-parameters", 4)
        yield from _papers_and_configs(each)
    yield "\nmethods that are not objectives:"
    for method in methods:
        yield method.class_path
        yield _wrap(_words(method.text), 4)
        yield from _papers_and_configs(method)
    yield f"\nconfigs are in {_relative(CONFIGS)}; one objective in full: kdlight objectives NAME"


def _papers_and_configs(each: ObjectiveDescription | MethodDescription) -> Iterator[str]:
    yield from (_wrap(str(paper), 4) for paper in each.sources)
    yield _wrap(_file_names(each.configs), 4)


def _full(each: ObjectiveDescription) -> Iterator[str]:
    first, *rest = (text for text in each.text.split("\n\n") if not text.startswith(".. math::"))
    yield f"{each.name}: kdlight.objectives.{each.class_name}\n"
    yield _wrap(_words(first)) + "\n"
    if each.formula:
        yield _wrap(each.formula, 4) + "\n"
    yield from (_wrap(_words(text)) + "\n" for text in rest)
    yield "hyper-parameters:" if each.hyper_parameters else "no hyper-parameters"
    for parameter in each.hyper_parameters:
        yield _wrap(str(parameter), 2)
        yield _wrap(_words(parameter.text), 6)
    yield ""
    needs = [*each.needs, *(f"callback {name}" for name in each.callbacks)]
    yield _wrap(f"needs: {', '.join(needs)}")
    yield _wrap(f"counts: {each.counts}")
    if each.configs:
        yield _wrap(f"configs: {_file_names(each.configs)}")
        yield f"run: kdlight fit --config {_relative(CONFIGS / each.configs[0])}.yaml"
    if not any(parameter.default is None for parameter in each.hyper_parameters):
        numbers = (p for p in each.hyper_parameters if p.type in ("int", "float"))
        options = (f" --model.objective.{p.name} {p.default}" for p in numbers)
        command = f"kdlight fit --config CONFIG --model.objective {each.class_name}"
        yield f"in another config: {command}{next(options, '')}"


def _unbroken(parameter: HyperParameter) -> str:
    text = str(parameter)
    return text.replace(" ", NO_BREAK_SPACE) if len(text) < 40 else text


def _file_names(configs: Iterable[str]) -> str:
    return ", ".join(f"{name}.yaml" for name in configs) or "in no config"


def _relative(path: Path) -> Path:
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _words(text: str) -> str:
    """Return a paragraph of a docstring without its markup."""
    return re.sub(r":math:`([^`]*)`|`{1,2}([^`]*)`{1,2}", r"\1\2", " ".join(text.split()))


def _wrap(text: str, indent: int = 0) -> str:
    margin = " " * indent
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    wrapped = fill(
        text,
        width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace(NO_BREAK_SPACE, " ")
