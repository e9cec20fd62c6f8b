"""``kdlight objectives`` and ``kdlight objectives NAME``: what one can train on."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from textwrap import fill

from jsonargparse import ArgumentParser

from kdlight.cli.described import FOLDER, Described, Method, find_methods, find_objectives
from kdlight.cli.signatures import HyperParameter

WIDEST = 100
"""Longer lines are hard to read, however wide the terminal is."""

GLUE = "\N{NO-BREAK SPACE}"


def objectives(args: list[str]) -> None:
    """List the objectives, or show one; an unknown name is one line, and the exit code 2."""
    parser = ArgumentParser(prog="kdlight objectives", description="What one can train on.")
    parser.add_argument("name", type=str | None, nargs="?", help="Show this one in full.")
    parser.add_argument("--json", action="store_true", help="Print it for programs.")
    options = parser.parse_args(args)
    found = find_objectives()
    try:
        shown = [_find(options.name, found)] if options.name else list(found.values())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if options.json:
        print(json.dumps([asdict(each) for each in shown], indent=2))
    elif options.name:
        print("\n".join(_whole(shown[0])))
    else:
        print("\n".join(_list(shown, find_methods())))


def _find(name: str, found: dict[str, Described]) -> Described:
    named = {_plain(key): each for each in found.values() for key in (each.name, each.class_name)}
    if _plain(name) in named:
        return named[_plain(name)]
    close = dict.fromkeys(named[key].name for key in get_close_matches(_plain(name), named))
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(found)}"
    raise ValueError(f"unknown objective {name!r}; {hint}")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _list(found: list[Described], methods: list[Method]) -> Iterator[str]:
    for each in found:
        yield each.name if each.name == each.class_name else f"{each.name}  ({each.class_name})"
        yield _wrap(_words(each.text.split("\n\n")[0]), 4)
        yield _wrap(", ".join(map(_unbroken, each.hyper_parameters)) or "no hyper-parameters", 4)
        yield from _origin(each)
    yield "\nand methods that are no objectives:"
    for method in methods:
        yield method.class_path
        yield _wrap(_words(method.text), 4)
        yield from _origin(method)
    yield f"\nconfigs are in {_shown(FOLDER)}; one objective in full: kdlight objectives NAME"


def _origin(each: Described | Method) -> Iterator[str]:
    yield from (_wrap(str(source), 4) for source in each.sources)
    yield _wrap(_configs(each.configs), 4)


def _whole(each: Described) -> Iterator[str]:
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
        yield _wrap(f"configs: {_configs(each.configs)}")
        yield f"run: kdlight fit --config {_shown(FOLDER / each.configs[0])}.yaml"
    if not any(parameter.default is None for parameter in each.hyper_parameters):
        dials = (p for p in each.hyper_parameters if p.type in ("int", "float"))
        some = (f" --model.objective.{p.name} {p.default}" for p in dials)
        command = f"kdlight fit --config CONFIG --model.objective {each.class_name}"
        yield f"in another config: {command}{next(some, '')}"


def _unbroken(parameter: HyperParameter) -> str:
    text = str(parameter)
    return text.replace(" ", GLUE) if len(text) < 40 else text


def _configs(names: Iterable[str]) -> str:
    return ", ".join(f"{name}.yaml" for name in names) or "in no config"


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _words(text: str) -> str:
    """A paragraph of a docstring without its markup."""
    return re.sub(r":math:`([^`]*)`|`{1,2}([^`]*)`{1,2}", r"\1\2", " ".join(text.split()))


def _wrap(text: str, indent: int = 0) -> str:
    margin = " " * indent
    width = min(shutil.get_terminal_size().columns, WIDEST)
    wrapped = fill(
        text,
        width,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace(GLUE, " ")
