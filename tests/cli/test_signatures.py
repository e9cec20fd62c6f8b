"""Hyper-parameters, as a signature and a docstring describe them."""

from __future__ import annotations

from typing import Any

from kdlight.cli.signatures import HyperParameter, hyper_parameters
from kdlight.objectives import Objective


class Mine(Objective):
    """Something.

    Args:
        scale: a factor, over
            two lines.
        names: words.
        **options: the rest.
    """

    def __init__(self, scale: float, names: list[str] | None = None, **options: Any) -> None:
        super().__init__()


class Child(Mine):
    """It inherits the constructor and its documentation."""


def test_types_defaults_and_texts() -> None:
    assert list(hyper_parameters(Child)) == [
        HyperParameter("scale", "float", None, "a factor, over two lines."),
        HyperParameter("names", "list[str] | None", "None", "words."),
        HyperParameter("**options", "", "", "the rest."),
    ]


def test_they_are_printed_as_in_code() -> None:
    scale, names, options = hyper_parameters(Mine)
    assert list(map(str, (scale, names, options))) == [
        "scale: float",
        "names: list[str] | None = None",
        "**options",
    ]


def test_a_class_without_a_constructor_of_its_own_has_none() -> None:
    class Plain(Objective):
        """No constructor."""

    inherited = list(hyper_parameters(Plain))
    assert [each.name for each in inherited] == []
