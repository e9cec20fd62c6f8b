"""The widths of features of real models are right, or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from kdlight.features import FeaturePath, feature_width, is_map
from kdlight.features.selection import input_feature, output_feature

SMALL: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = {"input_ids": torch.ones(2, 5, dtype=torch.long)}
IMAGES = {"pixel_values": torch.randn(2, 3, 32, 32)}


def llama() -> PreTrainedModel:
    sizes: dict[str, Any] = {**SMALL, "intermediate_size": 20, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=29))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=12, n_layer=2, n_head=2, n_inner=20, vocab_size=29, n_positions=8)
    )


def bert() -> PreTrainedModel:
    sizes: dict[str, Any] = {**SMALL, "intermediate_size": 20, "vocab_size": 29}
    return BertModel(BertConfig(**sizes))


def vit() -> PreTrainedModel:
    sizes: dict[str, Any] = {**SMALL, "intermediate_size": 20, "image_size": 32, "patch_size": 16}
    return ViTForImageClassification(ViTConfig(**sizes))


def resnet() -> PreTrainedModel:
    sizes: dict[str, Any] = {"embedding_size": 6, "hidden_sizes": [10, 20], "depths": [2, 1]}
    return ResNetForImageClassification(ResNetConfig(**sizes))


def mobilenet() -> PreTrainedModel:
    return MobileNetV2ForImageClassification(
        MobileNetV2Config(image_size=32, depth_multiplier=0.25)
    )


def whisper() -> PreTrainedModel:
    sizes: dict[str, Any] = {"d_model": 12, "vocab_size": 29, "num_mel_bins": 8}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 20}
    ends: dict[str, Any] = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    return WhisperForConditionalGeneration(WhisperConfig(**sizes, max_source_positions=8, **ends))


MODELS: dict[str, tuple[Callable[[], PreTrainedModel], dict[str, Tensor]]] = {
    "llama": (llama, IDS),
    "gpt2": (gpt2, IDS),
    "bert": (bert, IDS),
    "vit": (vit, IMAGES),
    "resnet": (resnet, IMAGES),
    "mobilenet": (mobilenet, IMAGES),
    "whisper": (
        whisper,
        {"input_features": torch.randn(2, 8, 16), "decoder_input_ids": IDS["input_ids"]},
    ),
}


def shapes(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of the first tensors that modules get and return, by path."""
    found: dict[str, torch.Size] = {}

    def record(path: str, feature: Callable[..., Tensor], *values: Any) -> None:
        try:
            tensor = feature(path, FeaturePath.parse(path), *values)
        except ValueError:
            return
        if tensor.is_floating_point():
            found[path] = tensor.shape

    def hook(name: str) -> Callable[..., None]:
        def run(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            record(name, output_feature, output)
            record(f"{name}:input", input_feature, args, kwargs)

        return run

    for name, module in model.named_modules():
        module.register_forward_hook(hook(name), with_kwargs=True)
    with torch.no_grad():
        model(**batch)
    return found


def channels(path: str, shape: torch.Size) -> int:
    """Return the number of channels, which sound (B, C, T) has on axis 1, as images do."""
    sound = {"model.encoder:input", "model:input", ":input"}
    return shape[1] if len(shape) == 4 or "conv" in path or path in sound else shape[-1]


@pytest.mark.parametrize("name", MODELS)
def test_widths_are_right_or_unknown(name: str) -> None:
    make, batch = MODELS[name]
    model = make().eval()
    found = shapes(model, batch)
    widths = {path: feature_width(model, path) for path in found}
    wrong = [
        (path, widths[path], tuple(shape))
        for path, shape in found.items()
        if widths[path] not in (None, channels(path, shape))
    ]
    assert not wrong
    known = sum(width is not None for width in widths.values())
    assert known > len(found) / 2 > 5


LAYERS = {
    "llama": ("model.layers.1", 12),
    "gpt2": ("transformer.h.1", 12),
    "bert": ("encoder.layer.1", 12),
    "vit": ("vit.layers.1", 12),
    "resnet": ("resnet.encoder.stages.1", 20),
    "whisper": ("encoder.layers.1", 12),
}


@pytest.mark.parametrize("name", LAYERS)
def test_widths_of_layers_are_known(name: str) -> None:
    path, width = LAYERS[name]
    assert feature_width(MODELS[name][0](), path) == width


def test_projections_of_grouped_heads() -> None:
    model = llama()
    widths = [feature_width(model, f"layers.0.self_attn.{n}_proj") for n in "qkvo"]
    assert widths == [12, 6, 6, 12]
    assert feature_width(model, "layers.0.self_attn.k_proj:input") == 12


def test_maps_are_told_by_convolutions() -> None:
    model = resnet()
    assert is_map(model, "resnet.encoder.stages.1")
    assert is_map(model, "resnet:input")
    assert not is_map(model, "classifier.1")
    assert not is_map(llama(), "layers.0.self_attn.k_proj")
