"""Hyper-parameters of an objective, from the signature and the docstring of its constructor."""

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
    """An argument, spelled as in code; ``default`` is None if the argument is required."""

    name: str
    type: str
    default: str | None
    text: str

    def __str__(self) -> str:
        default = "" if self.default is None else f" = {self.default}"
        return f"{self.name}: {self.type}{default}" if self.type else self.name


def hyper_parameters(cls: type) -> Iterable[HyperParameter]:
    """Yield the arguments of the constructor of an objective, which may be inherited.

    Example:
        >>> from kdlight.objectives import SkewForwardKL
        >>> str(next(iter(hyper_parameters(SkewForwardKL))))
        'skew: float = 0.1'
    """
    owner = next(each for each in cls.__mro__ if "__init__" in vars(each))
    if not issubclass(owner, Objective):
        return
    documented = parse(cleandoc(owner.__doc__ or ""), style=DocstringStyle.GOOGLE).params
    texts = {each.arg_name: " ".join((each.description or "").split()) for each in documented}
    hints = get_type_hints(owner.__init__)
    for name, each in signature(owner).parameters.items():
        if each.kind is Parameter.VAR_KEYWORD:
            yield HyperParameter(f"**{name}", "", "", texts.get(f"**{name}", ""))
        else:
            default = None if each.default is Parameter.empty else _value(each.default)
            yield HyperParameter(name, _type_name(hints[name]), default, texts.get(name, ""))


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _type_name(hint: Any) -> str:
    """Return a type as it is written in code.

    Example:
        >>> _type_name(Literal["a", "b"] | float | None)
        '"a" | "b" | float | None'
    """
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " | ".join(map(_type_name, inner))
    if kind is Literal:
        return " | ".join(map(_value, inner))
    if hint is NoneType:
        return "None"
    name = getattr(kind or hint, "__name__", str(hint))
    return f"{name}[{', '.join(map(_type_name, inner))}]" if kind in (dict, list, tuple) else name
