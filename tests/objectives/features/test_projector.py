"""Projectors: when there is one, its size, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight.objectives.features.projector import (
    check_projector,
    make_projector,
    projected,
)
from kdlight.sources import Dense, Projected

ONE, TWO = nn.Linear(2, 3), nn.Linear(2, 5)
OWN = ("", "")


def test_a_projector_has_the_widths_of_both_modules() -> None:
    made = make_projector("auto", None, ONE, TWO, OWN)
    assert isinstance(made, nn.Linear)
    assert (made.weight.shape, made.bias) == ((5, 3), None)
    assert isinstance(make_projector("auto", None, ONE, ONE, OWN), nn.Identity)
    assert isinstance(make_projector("linear", None, ONE, ONE, OWN), nn.Linear)
    assert isinstance(make_projector("none", None, nn.ReLU(), nn.ReLU(), OWN), nn.Identity)
    made = make_projector(lambda a, b: nn.Bilinear(a, a, b), (7, 9), ONE, TWO, OWN)
    assert isinstance(made, nn.Bilinear)
    assert made.weight.shape == (9, 7, 7)


def test_a_width_that_is_unknown_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"width of the feature '' cannot be told.*pass sizes="):
        make_projector("auto", None, nn.ReLU(), ONE, OWN)
    made = make_projector("auto", (2, 4), nn.ReLU(), nn.ReLU(), OWN)
    assert isinstance(made, nn.Linear)


def test_a_function_must_return_a_network() -> None:
    function: Any = lambda ours, theirs: torch.zeros(ours, theirs)  # noqa: E731
    with pytest.raises(TypeError, match="the result of projector must be an instance of Module"):
        make_projector(function, None, ONE, TWO, OWN)


@pytest.mark.parametrize("sizes", [(3,), (3, 0), (3, 4.0), (3, 4, 5), (True, 3), 3, "ab"])
def test_sizes_are_two_positive_integers(sizes: Any) -> None:
    with pytest.raises(ValueError, match="sizes must be the widths of student and teacher, two in"):
        check_projector("auto", sizes)
    check_projector("auto", [3, 4])


def test_a_linear_map_is_applied_later_to_what_is_selected() -> None:
    feature = torch.ones(2, 4, 3)
    assert isinstance(projected(nn.Identity(), feature, "a"), Dense)
    linear, own = nn.Linear(3, 5), nn.Sequential(nn.Linear(3, 5))
    source = projected(linear, feature, "a")
    assert isinstance(source, Projected)
    assert source.shape == (2, 4, 5)
    torch.testing.assert_close(source.logits(), linear(feature))
    source = projected(own, feature, "a")
    assert isinstance(source, Dense)
    torch.testing.assert_close(source.logits(), own(feature))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_is_that_of_the_projector(dtype: torch.dtype) -> None:
    feature = torch.ones(2, 3, dtype=dtype)
    for projector in (nn.Linear(3, 5), nn.Sequential(nn.Linear(3, 5))):
        assert projected(projector, feature, "a").logits().dtype == torch.float32
    assert projected(nn.Tanh(), feature, "a").logits().dtype == dtype
