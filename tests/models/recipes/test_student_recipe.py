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
from kdlight.models.recipes.student_recipe import build_base, load_base


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
