"""Kept layers compute what they compute in the model, or the pruning is refused."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from kdlight.models import prune_layers
from kdlight.models.pruning.pruning_check import check_pruned
from kdlight.models.training_weights import training_weights
from tests.models.tiny_models import SIZES, tiny

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

DEPTH = 6


def rwkv() -> Any:
    config = transformers.RwkvConfig(
        vocab_size=31, hidden_size=16, attention_hidden_size=16, num_hidden_layers=DEPTH,
        rescale_every=2, context_length=32,
    )  # fmt: skip
    return large(transformers.RwkvForCausalLM(config))


def large(model: Any) -> Any:
    """Make differences visible: weights of a new model are small."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("before", ["new", "evaluated", "trained again"])
@pytest.mark.parametrize("training", [False, True])
def test_layers_that_evaluation_changes_are_copied_as_in_training(
    before: str, training: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model, ids = rwkv().to(dtype), torch.randint(31, (2, 8))
    with torch.no_grad():
        if before != "new":
            model.eval()(ids)
        if before == "trained again":
            model.train()(ids)
        model.train(training)
        weights = [parameter.clone() for parameter in model.parameters()]
        whole = prune_layers(model, DEPTH)
        fewer = prune_layers(model, [0, 3, 5])
        assert model.training == training
        assert all(map(torch.equal, weights, model.parameters()))
        assert torch.equal(whole.eval()(ids).logits, model.eval()(ids).logits)
        assert torch.equal(whole.train()(ids).logits, model.train()(ids).logits)
        assert fewer.eval()(ids).logits.isfinite().all()


def test_weights_are_those_of_training_within_the_context_only() -> None:
    model = rwkv()
    trained = [parameter.clone() for parameter in model.parameters()]
    model.eval()(torch.zeros(1, 2, dtype=torch.long))
    evaluated = [parameter.clone() for parameter in model.parameters()]
    assert not all(map(torch.equal, trained, evaluated))
    with training_weights(model):
        assert all(map(torch.equal, trained, model.parameters()))
    assert all(map(torch.equal, evaluated, model.parameters()))


def test_a_layer_that_depends_on_its_place_is_refused() -> None:
    config = transformers.GPT2Config(
        vocab_size=31, n_embd=16, n_layer=DEPTH, n_head=2, scale_attn_by_inverse_layer_idx=True
    )
    model = large(large(transformers.GPT2LMHeadModel(config)))
    assert prune_layers(model, [0, 1]).config.num_hidden_layers == 2
    with pytest.raises(ValueError, match=r"layers=\[0, 5\]: layer 5 has attn.scaling="):
        prune_layers(model, [0, 5])


def test_a_layer_that_was_changed_by_hand_is_no_silent_loss() -> None:
    """The copy has the layers of the model's class."""
    model = large(tiny("llama"))
    assert prune_layers(model, 4).config.num_hidden_layers == 4
    model.model.layers[1].register_forward_hook(lambda layer, inputs, output: output * 2)
    with pytest.raises(ValueError, match=r"the logits differ by [\d.]+ of their size"):
        prune_layers(model, 4)
    assert prune_layers(model, [0, 3]).config.num_hidden_layers == 2


def test_a_kept_layer_whose_attention_changes_its_kind_is_refused() -> None:
    """On a few tokens a window has no effect, so the logits alone do not tell."""
    sizes = {**SIZES, "num_hidden_layers": DEPTH, "sliding_window": 32}
    kinds = ["sliding_attention", "full_attention"] * (DEPTH // 2)
    config = transformers.Gemma3TextConfig(**sizes, head_dim=8, layer_types=kinds)
    model = transformers.Gemma3ForCausalLM(config)
    student = prune_layers(model, [1, 2])
    assert student.config.layer_types == ["full_attention", "sliding_attention"]
    path = "model.layers"
    check_pruned(model, student, path, [1, 2])
    for layer, kind in zip(student.model.layers, kinds, strict=False):
        layer.self_attn.is_sliding = kind == "sliding_attention"
    with pytest.raises(ValueError, match="layer 1 has .*is_sliding=False, but in the copy True"):
        check_pruned(model, student, path, [1, 2])


FAMILIES = {
    "mamba": lambda: transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=31, hidden_size=16, num_hidden_layers=4, state_size=4)
    ),
    "gemma3": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=4)
    ),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            **SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=2
        )
    ),
    "bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=31, hidden_size=16, n_layer=4, n_head=2)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [[0, 1, 2, 3], [1, 3], [2]], ids=["all", "two", "one"])
def test_a_pruned_model_generates_with_its_cache(family: str, layers: list[int]) -> None:
    torch.manual_seed(0)
    student: Any = prune_layers(large(FAMILIES[family]()).eval(), layers).eval()
    prompt = torch.randint(3, 31, (2, 9))
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with_cache = student.generate(prompt, use_cache=True, **options)
    assert torch.equal(with_cache, student.generate(prompt, use_cache=False, **options))
