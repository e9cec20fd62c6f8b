"""Pairs of modules with the same number."""

from __future__ import annotations

import pytest
from torch import nn

from kdlight.features.numbered_pairs import numbered_pairs


def network(*kinds: str) -> nn.Module:
    """Return layers of which each has one module of a kind."""
    layers = [nn.ModuleDict({kind: nn.Linear(2, 2)}) for kind in kinds]
    return nn.ModuleDict({"model": nn.ModuleDict({"layers": nn.ModuleList(layers)})})


def test_numbers_that_the_student_has_are_paired_with_themselves() -> None:
    student = network("mamba", "attention", *["mamba"] * 9, "attention")
    found = numbered_pairs(student, {"layers.*.mamba": "h.*.attention"})
    numbers = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert list(found.items()) == [(f"layers.{i}.mamba", f"h.{i}.attention") for i in numbers]


def test_keys_of_outputs_are_kept() -> None:
    student = network("mamba", "attention")
    found = numbered_pairs(student, {"model.layers.*.mamba:output.0": "layers.*.a:output.1"})
    assert found == {"model.layers.0.mamba:output.0": "layers.0.a:output.1"}


def test_paths_without_a_star_are_not_changed() -> None:
    assert numbered_pairs(network(), {"a.b": "c"}) == {"a.b": "c"}


@pytest.mark.parametrize(
    "pair", [("layers.*.mamba", "layers.0"), ("a", "layers.*"), ("layers.*.*", "layers.*.*")]
)
def test_a_star_on_one_side_or_two_of_them(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="pairs must have one '\\*' on both sides, or none, got"):
        numbered_pairs(network("mamba"), dict([pair]))


def test_a_path_that_leads_nowhere() -> None:
    with pytest.raises(ValueError, match="ModuleDict has no modules 'layers.\\*.mixer'"):
        numbered_pairs(network("mamba"), {"layers.*.mixer": "layers.*.mixer"})


def test_a_path_must_be_a_text() -> None:
    with pytest.raises(TypeError, match="pairs must map paths of modules to paths, got 'a': 1"):
        numbered_pairs(nn.Identity(), {"a": 1})  # type: ignore[dict-item]
