"""The list of the layers is found in models of several architectures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.models.pruning.layer_list import layer_list
from tests.models.tiny_models import tiny


@pytest.mark.parametrize(("name", "path"), [("llama", "model.layers"), ("gpt2", "transformer.h")])
def test_the_path_leads_to_the_layers(name: str, path: str) -> None:
    model = tiny(name)
    assert layer_list(model) == path
    assert len(model.get_submodule(path)) == model.config.num_hidden_layers


def test_a_model_without_one_list_is_refused() -> None:
    model = tiny("llama")
    model.extra = nn.ModuleList([nn.Identity() for _ in range(model.config.num_hidden_layers)])
    with torch.no_grad(), pytest.raises(ValueError, match="must have one list of 4 modules"):
        layer_list(model)
