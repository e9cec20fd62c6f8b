"""A layer with a shortcut around it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight.models.shortcut_layers import ShortcutCausalLM, ShortcutLayer
from tests.support.elastic_fit import llama


class Pair(nn.Module):
    """A layer that returns a tuple, and has a setting that a model asks for."""

    kind = "sliding"

    def forward(self, hidden_states: Tensor, *, scale: float = 2.0) -> tuple[Tensor, str]:
        return hidden_states * scale, "cache"


def shortcut(weight: float = 0.25) -> ShortcutLayer:
    torch.manual_seed(0)
    layer = ShortcutLayer(Pair(), width=4, bottleneck=3, initial_weight=weight)
    nn.init.normal_(layer.up.weight)
    return layer


@pytest.mark.parametrize("named", [False, True])
def test_it_mixes_the_layer_and_the_adapter(named: bool) -> None:
    layer, hidden = shortcut(), torch.randn(2, 5, 4)
    nn.init.normal_(layer.router.weight)
    mixed, cache = layer(hidden_states=hidden, scale=3.0) if named else layer(hidden, scale=3.0)
    assert cache == "cache"
    weight = torch.sigmoid(layer.router(hidden))
    adapter = hidden + layer.up(nn.functional.silu(layer.down(hidden)))
    torch.testing.assert_close(mixed, weight * adapter + (1 - weight) * 3.0 * hidden)
    assert layer.last_weight is not None
    assert torch.equal(layer.last_weight, weight)
    assert weight.std() > 0.1


def test_without_a_weight_it_is_the_layer_to_the_bit() -> None:
    layer, hidden = shortcut(), torch.randn(2, 5, 4)
    nn.init.constant_(layer.router.bias, -torch.inf)
    assert torch.equal(layer(hidden)[0], Pair()(hidden)[0])


def test_it_can_be_copied_and_pickled_after_a_forward_pass() -> None:
    layer, hidden = shortcut(), torch.randn(2, 5, 4)
    expected = layer(hidden)[0]
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.last_weight is None
        assert torch.equal(other(hidden)[0], expected)
        assert other.router.weight is not layer.router.weight


def test_what_a_model_asks_of_its_layers_is_found() -> None:
    assert shortcut().kind == "sliding"
    with pytest.raises(AttributeError, match="nothing"):
        _ = shortcut().nothing


def test_weights_are_known_after_a_forward_pass() -> None:
    with pytest.raises(RuntimeError, match="after a forward pass only"):
        ShortcutCausalLM(llama()).mean_weight()


def test_padding_is_no_part_of_the_mean_weight() -> None:
    student = ShortcutCausalLM(llama())
    layers: Any = student.language_model.model.model.layers
    for index, layer in enumerate(layers):
        made = ShortcutLayer(layer, width=8, bottleneck=2, initial_weight=0.5)
        nn.init.normal_(made.router.weight, std=3)
        layers[index] = made.to(torch.float64)
    ids = torch.arange(3, 8)[None]
    student({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    expected = student.mean_weight().item()
    for left in (False, True):
        padding = torch.zeros(1, 9, dtype=torch.long)
        parts = [(ids, torch.ones_like(ids)), (padding + 2, padding)]
        tokens, mask = (
            torch.cat(each, 1) for each in zip(*parts[:: -1 if left else 1], strict=True)
        )
        student({"input_ids": tokens, "attention_mask": mask})
        assert student.mean_weight().item() == pytest.approx(expected, rel=1e-9)
    student({"input_ids": tokens, "labels": tokens.masked_fill(mask == 0, -100)})
    counted = [layer.last_weight[0, mask[0] == 1] for layer in layers]
    assert student.mean_weight().item() == pytest.approx(torch.stack(counted).mean().item())
    assert copy.deepcopy(student).language_model is not None
