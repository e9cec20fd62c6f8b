"""The public packages, the public names of each, and the page of a name."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import FunctionType
from typing import Any, get_origin

import kdlight

# The order of the reference; packages that are not named here follow.
FIRST = (
    "kdlight",
    "kdlight.objectives",
    "kdlight.losses",
    "kdlight.schedules",
    "kdlight.callbacks",
    "kdlight.modules",
    "kdlight.teachers",
    "kdlight.models",
    "kdlight.data",
    "kdlight.data.traces",
    "kdlight.metrics",
)


@cache
def rooms() -> tuple[str, ...]:
    """Return the modules with public names: those directly in kdlight, and deeper packages."""
    found = ["kdlight"]
    for info in pkgutil.walk_packages(kdlight.__path__, "kdlight."):
        if info.name.endswith(".__main__"):
            continue
        module = import_module(info.name) if info.ispkg else None
        if info.name.count(".") == 1 or hasattr(module, "__all__"):
            found.append(info.name)
    found.remove("kdlight.configs")  # YAML, and a page of its own
    return tuple(sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else 99, name)))


@cache
def public(room: str) -> dict[str, Any]:
    """Return the public names of a package and their values."""
    module = import_module(room)
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room
    }


def names() -> Iterator[tuple[str, str, Any]]:
    """Yield package, name and value of everything public except modules."""
    for room in rooms():
        for name, value in public(room).items():
            if not inspect.ismodule(value):
                yield room, name, value


def is_class(value: Any) -> bool:
    """Return whether ``value`` is a class; in Python 3.10, `inspect` counts aliases as classes."""
    return inspect.isclass(value) and get_origin(value) is None


@cache
def classes() -> dict[tuple[str, str], tuple[str, str]]:
    """Return package and name of each public class, by the module and name of its source."""
    return {
        (value.__module__, value.__qualname__): (homes()[name], name)
        for _, name, value in names()
        if is_class(value)
    }


@cache
def homes() -> dict[str, str]:
    """Return the package of each bare name: the first with its source, or else the first."""
    packages: dict[str, str] = {}
    for room, name, value in names():
        if f"{getattr(value, '__module__', '')}.".startswith(f"{room}.") and room != "kdlight":
            packages.setdefault(name, room)
    for room, name, _ in names():
        packages.setdefault(name, room)
    return packages


def locate(text: str) -> tuple[str, str] | None:
    """Return package and anchor of a name in backticks, or None if it is not public.

    >>> locate("forward_kl"), locate("kdlight.callbacks.OnPolicy"), locate("kdlight/losses/")
    (('kdlight.losses', 'forward_kl'), ('kdlight.callbacks', 'OnPolicy'), ('kdlight.losses', ''))
    """
    if re.fullmatch(r"(kdlight|callbacks)/[\w/]*(\.py)?", text):
        path = text.strip("/").removesuffix(".py").replace("/", ".")
        path = path if path.startswith("kdlight") else f"kdlight.{path}"
        return (path, "") if path in rooms() else None
    dotted = text.removesuffix("()")
    if dotted in rooms():
        return dotted, ""
    head, _, attribute = dotted.partition(".")
    room = homes().get(head)
    name = head
    if head == "kdlight":
        rest = [each for each in rooms() if dotted.startswith(f"{each}.")]
        if not rest:
            return None
        room = max(rest, key=len)
        name, _, attribute = dotted[len(room) + 1 :].partition(".")
    if room is None or name not in public(room):
        return None
    if room == "kdlight":
        room = homes()[name]
    if not attribute:
        return room, name
    own = vars(public(room)[name]) if is_class(public(room)[name]) else {}
    if attribute not in own:
        return None
    has_anchor = isinstance(own[attribute], (FunctionType, property)) and attribute[0] != "_"
    return room, f"{name}.{attribute}" if has_anchor else name
