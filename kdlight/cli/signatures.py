"""Hyper-parameters of an objective, from the signature and the docstring of its constructor."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass

from docstring_parser import DocstringStyle, parse

from kdlight.cli.source_code import Definition, SourceFile, source_file


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


def hyper_parameters(cls: Definition) -> Iterator[HyperParameter]:
    """Yield the arguments of the constructor of an objective, which may be inherited.

    Example:
        >>> from kdlight.cli.source_code import find
        >>> str(next(hyper_parameters(find("kdlight.objectives.SkewForwardKL"))))
        'skew: float = 0.1'
    """
    found = cls.method("__init__")
    if found is None:
        return
    owner, constructor = found
    documented = parse(owner.doc, style=DocstringStyle.GOOGLE).params
    texts = {each.arg_name: " ".join((each.description or "").split()) for each in documented}
    for argument, default in _arguments(constructor.args):
        name = argument.arg
        value = None if default is None else _value(default, owner.file)
        yield HyperParameter(name, _type(argument, owner.file), value, texts.get(name, ""))
    if constructor.args.kwarg is not None:
        name = f"**{constructor.args.kwarg.arg}"
        yield HyperParameter(name, "", "", texts.get(name, ""))


def type_name(node: ast.expr, file: SourceFile) -> str:
    """Return a type as it is written in code, with the names of other types replaced by them.

    Example:
        >>> file = SourceFile.parse("a", "Mode = Literal['a', 'b']")
        >>> type_name(ast.parse("Mode | float | None", mode="eval").body, file)
        '"a" | "b" | float | None'
    """
    if isinstance(node, ast.BinOp):
        return f"{type_name(node.left, file)} | {type_name(node.right, file)}"
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        kind = ast.unparse(node.value).rpartition(".")[2]
        if kind == "Literal":
            return " | ".join(_value(each, file) for each in inner)
        if kind in ("dict", "list", "tuple"):
            return f"{kind}[{', '.join(type_name(each, file) for each in inner)}]"
        return kind
    name = ast.unparse(node)
    alias = _find_value(file, name)
    return name.rpartition(".")[2] if alias is None else type_name(*alias)


def _arguments(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    named = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(named) - len(arguments.defaults))
    yield from list(zip(named, [*missing, *arguments.defaults], strict=True))[1:]  # without self
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _type(argument: ast.arg, file: SourceFile) -> str:
    return "" if argument.annotation is None else type_name(argument.annotation, file)


def _value(node: ast.expr, file: SourceFile) -> str:
    if isinstance(node, ast.Name):
        named = _find_value(file, node.id)
        if named is not None:
            return _value(*named)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _find_value(file: SourceFile, name: str) -> tuple[ast.expr, SourceFile] | None:
    """Return what is assigned to a name in a file, or in the file that it is imported from."""
    if name in file.values:
        return file.values[name], file
    module, original = file.imports.get(name, ("", ""))
    home = source_file(module) if module.startswith("kdlight.") else None
    return None if home is None else _find_value(home, original)
