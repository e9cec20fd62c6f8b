"""Hyper-parameters: from the signature their types and defaults, from the docstring their words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from inspect import Parameter, cleandoc, signature
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import DocstringStyle, parse

from kdlight.objectives import Objective


@dataclass(frozen=True)
class HyperParameter:
    """An argument, spelled as in code; ``default`` is None where it must be given."""

    name: str
    type: str
    default: str | None
    text: str

    def __str__(self) -> str:
        given = "" if self.default is None else f" = {self.default}"
        return f"{self.name}: {self.type}{given}" if self.type else self.name


def hyper_parameters(cls: type) -> Iterable[HyperParameter]:
    """The arguments of the constructor that an objective has, or inherits from another one."""
    home = next(each for each in cls.__mro__ if "__init__" in vars(each))
    if not issubclass(home, Objective):
        return
    documented = parse(cleandoc(home.__doc__ or ""), style=DocstringStyle.GOOGLE).params
    texts = {each.arg_name: " ".join((each.description or "").split()) for each in documented}
    hints = get_type_hints(home.__init__)
    for name, each in signature(home).parameters.items():
        if each.kind is Parameter.VAR_KEYWORD:
            yield HyperParameter(f"**{name}", "", "", texts.get(f"**{name}", ""))
        else:
            default = None if each.default is Parameter.empty else _value(each.default)
            yield HyperParameter(name, _spell(hints[name]), default, texts.get(name, ""))


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _spell(hint: Any) -> str:
    """A type as one would write it.

    >>> _spell(Literal["a", "b"] | float | None)
    '"a" | "b" | float | None'
    """
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " | ".join(map(_spell, inner))
    if kind is Literal:
        return " | ".join(map(_value, inner))
    if hint is NoneType:
        return "None"
    name = getattr(kind or hint, "__name__", str(hint))
    return f"{name}[{', '.join(map(_spell, inner))}]" if kind in (dict, list, tuple) else name
