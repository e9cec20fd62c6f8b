"""A model with some of its layers computes what its pruned copy computes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from kdlight.models import CausalLM, SubNetworks, choose_layers, prune_layers, sub_network
from tests.models.tiny_models import CONFIGS, DEPTH, RESCALED, tiny, tokens

ARCHITECTURES = {**CONFIGS, **RESCALED}


@pytest.mark.parametrize("layers", [[0, 3], [1, 2], [2], [0, 1, 3], DEPTH, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_gradients_are_bitwise_those_of_a_pruned_copy(name: str, layers: Any) -> None:
    """Also where layers attend to a window or to everything by turns, and along the fast path."""
    model, ids = tiny(name), tokens()
    small: Any = prune_layers(model, layers).eval()  # without dropout
    expected = small(input_ids=ids, use_cache=False).logits
    expected.logsumexp(-1).sum().backward()
    with sub_network(model, layers):
        found = model(input_ids=ids, use_cache=False).logits
        assert torch.equal(CausalLM.wrap(model).eval()({"input_ids": ids}).logits(), found)
    found.logsumexp(-1).sum().backward()
    assert torch.equal(found, expected)
    wide = dict(model.named_parameters())
    path = SubNetworks(model).path
    kept = choose_layers(layers, depth=DEPTH)
    for new, parameter in small.named_parameters():
        inside = new.startswith(f"{path}.")
        place, _, rest = new.removeprefix(f"{path}.").partition(".")
        old = f"{path}.{kept[int(place)]}.{rest}" if inside else new
        gradient = wide[old].grad
        assert gradient is not None
        assert torch.equal(gradient, parameter.grad), new
    unused = [i for i in range(DEPTH) if i not in kept]
    layer_list = model.get_submodule(path)
    assert all(p.grad is None for i in unused for p in layer_list[i].parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sub_network_generates_with_its_cache(name: str) -> None:
    model = tiny(name)
    ids, options = tokens(), {"max_new_tokens": 5, "do_sample": False}
    small: Any = prune_layers(model, [1, 3]).eval()
    expected = small.generate(ids, **options)
    with sub_network(model, [1, 3]):
        assert torch.equal(model.generate(ids, **options), expected)


def test_nothing_is_changed_afterwards() -> None:
    model, ids = tiny("qwen3"), tokens()
    config, names = copy.deepcopy(model.config.to_dict()), list(model.state_dict())
    logits, layers = model(input_ids=ids).logits, list(model.model.layers)
    with sub_network(model, [0, 3]):
        assert list(model.model.layers) == [layers[0], layers[3]]
        assert model.model.layers[1].self_attn.layer_idx == 1
    with pytest.raises(IndexError), sub_network(model, [0, 3]):
        model(input_ids=ids + 31)
    assert model.config.to_dict() == config
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(model.model.layers, layers, strict=True))
    assert torch.equal(model(input_ids=ids).logits, logits)


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="layers must be 1 to 4"), sub_network(tiny("llama"), 5):
        pass


@pytest.mark.parametrize("layers", [[0], [1, 2], 3, DEPTH])
def test_parameters_are_counted_as_a_pruned_copy_has_them(layers: Any) -> None:
    for name in CONFIGS:
        model = tiny(name)
        expected = sum(p.numel() for p in prune_layers(model, layers).parameters())
        assert SubNetworks(model).count_parameters(layers) == expected
