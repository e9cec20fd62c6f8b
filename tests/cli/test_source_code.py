"""Classes of kdlight, read from their source, are those that are imported."""

from __future__ import annotations

from inspect import cleandoc, signature
from pydoc import locate

import pytest
import torch

from kdlight import objectives
from kdlight.cli.source_code import SourceFile, find, find_in, source_file
from kdlight.objectives import OBJECTIVES
from tests.objectives.features.samples import build_with_pairs


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_read_as_it_is(name: str) -> None:
    cls = OBJECTIVES[name]
    found = find(f"kdlight.objectives.{cls.__name__}")
    assert found is not None
    assert found.doc == cleandoc(cls.__doc__ or "")
    assert found.file.name == cls.__module__
    objective = build_with_pairs(cls)
    assert found.attribute("needs") == objective.needs
    assert found.attribute("unit") == objective.unit
    method = found.method("__init__")
    if method is None:
        assert cls.__init__ is torch.nn.Module.__init__
        return
    names = [each.arg for each in (*method[1].args.args[1:], *method[1].args.kwonlyargs)]
    keywords = [n for n, p in signature(cls).parameters.items() if p.kind is not p.VAR_KEYWORD]
    assert names == keywords


@pytest.mark.parametrize(
    "path", ["kdlight.DistillationModule", "kdlight.callbacks.OnPolicy", "kdlight.losses.uld"]
)
def test_a_public_name_leads_to_its_definition(path: str) -> None:
    found, imported = find(path), locate(path)
    assert found is not None
    assert found.file.name == imported.__module__  # type: ignore[union-attr]
    assert found.doc == cleandoc(imported.__doc__ or "")


@pytest.mark.parametrize(
    "path", ["kdlight.Nothing", "kdlight.nowhere.A", "kdlight.objectives.torch"]
)
def test_what_is_not_in_kdlight_is_not_found(path: str) -> None:
    assert find(path) is None


def test_an_attribute_may_be_inherited_or_missing() -> None:
    file = SourceFile.parse("a", "class A:\n  x: int = 1\n\nclass B(A):\n  y = frozenset({2})\n")
    found = find_in(file, "B")
    assert found is not None
    assert (found.attribute("x"), found.attribute("y")) == (1, {2})
    with pytest.raises(AttributeError, match="B has no attribute 'z'"):
        found.attribute("z")


def test_all_public_objectives_are_in_the_source() -> None:
    room = source_file("kdlight.objectives")
    assert room is not None
    names = [name for name in objectives.__all__ if isinstance(getattr(objectives, name), type)]
    assert all(find_in(room, name) is not None for name in names)
