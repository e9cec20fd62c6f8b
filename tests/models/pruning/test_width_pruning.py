"""A narrower model has slices of the weights, and computes what these units compute."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import pytest
import torch

from kdlight.models import WidthImportance, prune_layers, prune_width, width_importance
from tests.models.pruning.width_models import (
    CENTERED,
    FAMILIES,
    SCALED,
    batch,
    decoder,
    logits,
)

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

ALL = {"heads": 4, "feed_forward": 24, "hidden": 16}
LAYER = "model.layers.1"


def scores(seed: int = 0) -> WidthImportance:
    """Return random importance, so that what is kept is no prefix, and other in each layer."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 2), (3, 24), (16,))
    return WidthImportance(*(torch.rand(*each, generator=generator).double() for each in shapes))


def highest(values: torch.Tensor, count: int) -> list[int]:
    return sorted(sorted(range(len(values)), key=lambda i: -values[i].item())[:count])


@pytest.mark.parametrize("name", [*FAMILIES, *SCALED, *CENTERED])
@pytest.mark.parametrize("sizes", [{}, ALL], ids=["none given", "all kept"])
def test_everything_kept_is_the_model_bit_for_bit(name: str, sizes: dict[str, Any]) -> None:
    model = decoder(name)
    student = prune_width(model, **sizes, importance=scores())
    assert student.training
    assert torch.equal(logits(student), logits(model))
    assert student.config.to_dict() == model.config.to_dict()
    assert type(student) is type(model)


@pytest.mark.parametrize("name", [*FAMILIES, *SCALED, *CENTERED])
@pytest.mark.parametrize("sizes", [{"heads": 2}, {"feed_forward": 10}], ids=str)
def test_fewer_units_are_the_model_with_the_others_at_zero(
    name: str, sizes: dict[str, Any]
) -> None:
    """The zeros are written into the weights here; hooks do it where the model is built."""
    model, importance = decoder(name).double(), scores()
    student = prune_width(model, **sizes, importance=importance)
    by_hand = copy.deepcopy(model)
    head_dim = model.model.layers[0].self_attn.head_dim
    with torch.no_grad():
        for index, layer in enumerate(by_hand.model.layers):
            if "heads" in sizes:
                (kept,) = highest(importance.heads[index], 1)
                weight = layer.self_attn.o_proj.weight.unflatten(1, (2, 2 * head_dim))
                weight[:, 1 - kept] = 0
            else:
                kept = highest(importance.feed_forward[index], 10)
                rest = [unit for unit in range(24) if unit not in kept]
                layer.mlp.down_proj.weight[:, rest] = 0
    torch.testing.assert_close(logits(student), logits(by_hand), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(logits(student), logits(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_is_the_expected_slice(name: str) -> None:
    model, importance = decoder(name), scores()
    student = prune_width(model, heads=2, feed_forward=10, hidden=12, importance=importance)
    ours, theirs = student.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    hidden = highest(importance.hidden, 12)
    (group,) = highest(importance.heads[1], 1)
    neurons = highest(importance.feed_forward[1], 10)
    head_dim = model.model.layers[0].self_attn.head_dim
    queries = list(range(2 * group * head_dim, 2 * (group + 1) * head_dim))
    keys = list(range(group * head_dim, (group + 1) * head_dim))
    rows = {"q": queries, "k": keys, "v": keys, "o": hidden}
    columns = {"q": hidden, "k": hidden, "v": hidden, "o": queries}
    for key in "qkvo":
        path = f"{LAYER}.self_attn.{key}_proj"
        expected = theirs[f"{path}.weight"][rows[key]][:, columns[key]]
        assert torch.equal(ours[f"{path}.weight"], expected)
        if f"{path}.bias" in theirs:
            assert torch.equal(ours[f"{path}.bias"], theirs[f"{path}.bias"][rows[key]])
    for key, row, column in (
        ("gate", neurons, hidden),
        ("up", neurons, hidden),
        ("down", hidden, neurons),
    ):
        path = f"{LAYER}.mlp.{key}_proj"
        assert torch.equal(ours[f"{path}.weight"], theirs[f"{path}.weight"][row][:, column])
        if f"{path}.bias" in theirs:
            assert torch.equal(ours[f"{path}.bias"], theirs[f"{path}.bias"][row])
    for key in (f"{LAYER}.input_layernorm", f"{LAYER}.post_attention_layernorm", "model.norm"):
        assert torch.equal(ours[f"{key}.weight"], theirs[f"{key}.weight"][hidden])
    for key in ("model.embed_tokens", "lm_head"):
        assert torch.equal(ours[f"{key}.weight"], theirs[f"{key}.weight"][:, hidden])
    for key in theirs:
        if "q_norm" in key or "k_norm" in key:
            assert torch.equal(ours[key], theirs[key])
    biased = {"llama": {"q", "k", "v", "o"}, "qwen2": {"q", "k", "v"}}.get(name, set())
    assert {key for key in "qkvo" if f"{LAYER}.self_attn.{key}_proj.bias" in theirs} == biased
    assert (name == "qwen3") == any("q_norm" in key for key in theirs)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_folder_is_read_by_transformers_alone(name: str, tmp_path: Any) -> None:
    model = decoder(name)
    student: Any = prune_width(model, heads=2, feed_forward=10, hidden=8, importance=scores())
    student.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert torch.equal(logits(loaded), logits(student))
    config = loaded.config
    assert (config.hidden_size, config.intermediate_size) == (8, 10)
    assert (config.num_attention_heads, config.num_key_value_heads) == (2, 1)
    # no longer the quotient of the two
    assert config.head_dim == model.model.layers[0].self_attn.head_dim
    tied = [each.lm_head.weight is each.model.embed_tokens.weight for each in (student, loaded)]
    assert tied == [model.config.tie_word_embeddings] * 2
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    prompt = batch()["input_ids"]
    with_cache = loaded.eval().generate(prompt, use_cache=True, **options)
    assert torch.equal(with_cache, loaded.generate(prompt, use_cache=False, **options))


def test_a_small_model_within_a_large_one_is_found_again() -> None:
    """Dead channels change only the mean of squares that norms divide by."""
    small = decoder("llama").double()
    wide = {
        **small.config.to_dict(),
        "hidden_size": 24,
        "head_dim": 4,
        "rms_norm_eps": 1e-6 * 2 / 3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = transformers.LlamaForCausalLM(transformers.LlamaConfig(**wide)).double().eval()
        live = torch.randperm(24)[:16].sort().values
    factor = (16 / 24) ** 0.5
    with torch.no_grad():
        for (name, weight), own in zip(large.named_parameters(), small.parameters(), strict=True):
            if name.endswith(
                ("o_proj.weight", "down_proj.weight", "o_proj.bias", "down_proj.bias")
            ):
                weight.zero_()
                weight[live] = own
            elif "norm" in name:
                weight.normal_()  # of dead channels, which are multiplied by 0
                weight[live] = own * factor
            elif name.endswith("bias"):
                weight.copy_(own)
            elif "embed" in name:
                weight.zero_()
                weight[:, live] = own
            else:
                weight.normal_()
                weight[:, live] = own
    torch.testing.assert_close(logits(large), logits(small), rtol=0, atol=1e-5)  # norms are float32
    importance = width_importance(large, [batch()])
    assert importance.hidden.nonzero().flatten().tolist() == live.tolist()
    student: Any = prune_width(large, hidden=16, importance=importance)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if "norm" in name:
                weight.div_(factor)
        for module in student.modules():
            if hasattr(module, "variance_epsilon"):
                module.variance_epsilon = 1e-6
    for (name, found), own in zip(student.named_parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(found, own, rtol=1e-15, atol=1e-15, msg=name)
    torch.testing.assert_close(logits(student), logits(small), rtol=0, atol=1e-5)


def test_heads_and_neurons_that_do_nothing_are_removed_without_loss() -> None:
    model = decoder("qwen3").double()
    with torch.no_grad():
        for index, layer in enumerate(model.model.layers):
            dead = index % 2  # another group in the next layer
            layer.self_attn.v_proj.weight.unflatten(0, (2, -1))[dead] = 0
            layer.mlp.up_proj.weight[index::3] = 0
    importance = width_importance(model, [batch()])
    student = prune_width(model, heads=2, feed_forward=16, importance=importance)
    torch.testing.assert_close(logits(student), logits(model), rtol=1e-12, atol=1e-12)
    wrong = prune_width(model, heads=2, feed_forward=16, importance="first")
    assert not torch.allclose(logits(wrong), logits(model))


def test_layers_and_width_are_pruned_together() -> None:
    model, importance = decoder("llama"), scores()
    shallow = prune_layers(model, [0, 2])
    student: Any = prune_width(shallow, feed_forward=8, importance=importance.of_layers([0, 2]))
    whole: Any = prune_width(model, feed_forward=8, importance=importance)
    for new, old in enumerate([0, 2]):
        one, other = student.model.layers[new], whole.model.layers[old]
        assert all(map(torch.equal, one.parameters(), other.parameters()))
    with pytest.raises(ValueError, match=r"importance.heads must have shape \(2, 2\).*of_layers"):
        prune_width(shallow, feed_forward=8, importance=importance)


def test_nothing_is_shared_and_no_random_number_drawn() -> None:
    model = decoder("llama")
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    student: Any = prune_width(model, heads=2, hidden=8, importance=scores())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert not any(
        each._forward_hooks or each._forward_pre_hooks
        for each in [*model.modules(), *student.modules()]
    )
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    student.config.eos_token_id = student.generation_config.eos_token_id = 7
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.config.hidden_size, model.config.eos_token_id) == (16, 2)
    assert model.generation_config.eos_token_id == 2


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float64])
def test_a_dtype_of_its_own(dtype: Any) -> None:
    wanted = torch.bfloat16 if dtype == "bfloat16" else dtype
    student: Any = prune_width(decoder("llama"), heads=2, importance="first", dtype=dtype)
    assert {each.dtype for each in student.parameters()} == {wanted}
    half: Any = prune_width(decoder("llama").bfloat16(), heads=2, importance=scores())
    assert half.dtype == torch.bfloat16


def test_a_config_that_refuses_its_sizes_is_told_before_training() -> None:
    """Transformers would refuse the saved student."""
    with pytest.raises(
        ValueError, match="hidden=6 with heads=4: .*LlamaConfig refuses these sizes"
    ):
        prune_width(decoder("llama"), hidden=6, importance="first")
    assert prune_width(decoder("mistral"), hidden=6, importance="first").config.hidden_size == 6


@pytest.mark.parametrize("name", SCALED)
def test_hidden_channels_that_scale_the_embeddings_are_refused(name: str) -> None:
    message = (
        "cannot be pruned to hidden=12: model.embed_tokens.*embed_scale=4.0, but .*feed_forward"
    )
    with pytest.raises(ValueError, match=message):
        prune_width(decoder(name), hidden=12, importance="first")


def test_hidden_channels_that_are_centered_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Cohere.* cannot be pruned in width: the logits differ"):
        prune_width(decoder("cohere"), hidden=12, importance="first")


def test_a_class_that_derives_the_width_of_a_head_is_refused() -> None:
    config = transformers.StableLmConfig(**{**decoder("llama").config.to_dict()})
    model = transformers.StableLmForCausalLM(config)
    with pytest.raises(ValueError, match="StableLm.* other sizes in its config do not give"):
        prune_width(model, heads=2, importance="first")
