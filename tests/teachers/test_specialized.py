"""Teachers that are made of few networks by masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import FrozenTeacher
from kdlight.sources import as_source
from kdlight.teachers import MaskedTeacher, SpecializedTeachers, frozen_teachers


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3))


def test_each_path_makes_a_teacher_of_a_shared_network() -> None:
    large, small = network(), FrozenTeacher(network(), temperature=2.0)
    ensemble = SpecializedTeachers(
        {"large": large, "small": small, "plain": network()},
        {"large": ["0", "1"], "small": ["1"]},
    )
    assert [*ensemble.by_name] == ["large/0", "large/1", "small/1", "plain"]
    assert ensemble.networks()[:2] == [large, small.model]
    assert frozen_teachers(ensemble)[2] is small
    masked = [each for each in ensemble.teachers() if isinstance(each, MaskedTeacher)]
    assert [each.paths for each in masked] == [["0"], ["1"], ["1"]]
    for each in masked:
        each.finish()
    parts = ensemble(torch.randn(5, 4)).parts
    assert [*parts] == [*ensemble.by_name]
    assert not torch.allclose(as_source(parts["large/0"]).logits(), parts["large/1"].logits())


def test_the_size_of_a_feature_may_be_given() -> None:
    relu = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"teacher 'a', path '1': .*; pass sizes=\{'1': ...\}"):
        SpecializedTeachers({"a": relu}, {"a": ["0", "1"]})
    ensemble = SpecializedTeachers({"a": relu}, {"a": ["0", "1"]}, sizes={"a": {"1": 8}})
    assert [*ensemble.by_name] == ["a/0", "a/1"]
    with pytest.raises(ValueError, match=r"sizes has \['b'\], but the teachers are \['a'\]"):
        SpecializedTeachers({"a": relu}, {"a": ["0"]}, sizes={"b": {"1": 8}})


@pytest.mark.parametrize(
    ("teachers", "masks", "error", "message"),
    [
        ({"a": network()}, {"b": ["0"]}, ValueError, r"masks has \['b'\], .* teachers are \['a'\]"),
        ([network()], {}, TypeError, "teachers must map names to networks"),
        ({"a": network()}, {"a": ["9"]}, ValueError, "no module of Sequential is called '9'"),
        ({"a": network()}, {"a": "net.1"}, TypeError, r"masks\['a'\] must be a list of paths"),
        (
            {"a": network()},
            {"a": ["2"]},
            ValueError,
            "teacher 'a', path '2': heads must be at most 1",
        ),
        ({}, {}, ValueError, "at least one teacher"),
    ],
    ids=["name", "list", "path", "string", "heads", "none"],
)
def test_arguments_are_checked(teachers: Any, masks: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        SpecializedTeachers(teachers, masks)
