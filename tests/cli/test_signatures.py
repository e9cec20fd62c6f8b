"""Hyper-parameters, as a signature and a docstring describe them."""

from __future__ import annotations

import ast

import pytest

from kdlight.cli.signatures import HyperParameter, hyper_parameters, type_name
from kdlight.cli.source_code import SourceFile, find_in

SOURCE = '''
Mode = Literal["a", "b"]
SIZE = 7

class Mine(Objective):
    """Something.

    Args:
        scale: a factor, over
            two lines.
        names: words.
        **options: the rest.
    """

    def __init__(
        self, scale: float, names: list[str] | None = None, *, size: int = SIZE, **options: Any
    ) -> None: ...

class Child(Mine):
    """It inherits the constructor and its documentation."""

class Without(Objective):
    """No constructor."""
'''
FILE = SourceFile.parse("mine", SOURCE)


def parameters(name: str) -> list[HyperParameter]:
    definition = find_in(FILE, name)
    assert definition is not None
    return list(hyper_parameters(definition))


def test_types_defaults_and_texts() -> None:
    assert parameters("Child") == [
        HyperParameter("scale", "float", None, "a factor, over two lines."),
        HyperParameter("names", "list[str] | None", "None", "words."),
        HyperParameter("size", "int", "7", ""),
        HyperParameter("**options", "", "", "the rest."),
    ]


def test_they_are_printed_as_in_code() -> None:
    assert list(map(str, parameters("Mine"))) == [
        "scale: float",
        "names: list[str] | None = None",
        "size: int = 7",
        "**options",
    ]


def test_a_class_without_a_constructor_of_its_own_has_none() -> None:
    assert parameters("Without") == []


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Mode | None", '"a" | "b" | None'),
        ("dict[str, torch.Tensor]", "dict[str, Tensor]"),
        ("Callable[[int], str]", "Callable"),
    ],
)
def test_a_type_is_shown_as_in_code(written: str, shown: str) -> None:
    assert type_name(ast.parse(written, mode="eval").body, FILE) == shown
