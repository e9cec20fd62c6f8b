"""The base model of a recipe: loaded from its source, or the teacher's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdlight.models import (
    CausalLM,
    PrunedCausalLM,
    SingleInput,
    StudentRecipe,
)
from kdlight.models.recipes.student_recipe import build_base, load_base, rebuild_config


def test_a_teacher_that_is_not_a_language_model_needs_a_source():
    with pytest.raises(TypeError, match="SingleInput.*source"):
        PrunedCausalLM(2).build(SingleInput(nn.Linear(2, 3)))


def test_the_base_is_the_model_of_the_teacher_or_of_the_source(llama: Any, tmp_path: Path) -> None:
    recipe = PrunedCausalLM(2)
    assert load_base(recipe, llama) is llama
    assert load_base(recipe, CausalLM.wrap(llama)) is llama
    llama.save_pretrained(tmp_path)
    loaded = load_base(PrunedCausalLM(2, source=str(tmp_path), dtype="bfloat16"), None)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.num_hidden_layers == llama.config.num_hidden_layers


def test_a_recipe_has_to_build() -> None:
    class Nothing(StudentRecipe):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()  # type: ignore[abstract]


def test_an_export_is_a_copy_in_evaluation_mode_with_plain_weights() -> None:
    class Normalized(StudentRecipe):
        def build(self, teacher: Any) -> nn.Module:
            layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
            return nn.Sequential(nn.Dropout(), layer)

    recipe, x = Normalized(), torch.randn(5, 4)
    student = recipe.build(None)
    exported = recipe.export(student)
    assert student.training
    assert not exported.training
    assert sorted(exported.state_dict()) == ["1.bias", "1.weight"]
    assert torch.equal(exported(x), student.eval()(x))


def test_another_recipe_starts_from_a_recipe_a_network_or_a_copy_of_the_teacher() -> None:
    teacher = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).bfloat16().eval()
    teacher.requires_grad_(False)
    network = nn.Linear(4, 3)
    assert build_base(network, teacher) is network
    copied = build_base(None, teacher)
    assert copied.training
    assert not teacher.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in copied.parameters())
    assert not any(p.requires_grad or p.dtype != torch.bfloat16 for p in teacher.parameters())
    assert torch.equal(copied[0].weight, teacher[0].weight.float())  # type: ignore[index, union-attr]
    with pytest.raises(ValueError, match="no live teacher"):
        build_base(None, None)


def test_a_recipe_is_rebuilt_as_those_that_it_starts_from(llama: Any) -> None:
    class Outer(StudentRecipe):
        def __init__(self, base: Any) -> None:
            self.base, self.bits = base, 4

        def build(self, teacher: Any) -> Any:
            return build_base(self.base, teacher)

    ids = torch.arange(9)[None]
    inner = PrunedCausalLM({"keep": 2, "by": "importance"}, data=[{"input_ids": ids}])
    outer = Outer(Outer(inner))
    outer.build(llama)
    changed = {"layers": inner.chosen_layers, "data": None}
    expected = {"init_args": {"base": {"init_args": {"base": {"init_args": changed}}}}}
    assert len(inner.chosen_layers or []) == 2
    assert rebuild_config(outer) == expected
    assert rebuild_config(Outer(PrunedCausalLM(2))) == {}
    assert rebuild_config(nn.Linear(2, 2)) == {}
