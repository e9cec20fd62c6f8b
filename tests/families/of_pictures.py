"""Families that read pictures and sound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlight import TransformersModel
from tests.families.family import (
    CLASSES,
    DECODER,
    ENCODER,
    VOCABULARY,
    Family,
    classes,
    maker,
    own_logits,
    pictures,
    seeded,
    tokens,
)
from tests.families.of_text import BART, BERT, SIZES

VIT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
SEGFORMER: dict[str, Any] = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [8, 16],
    "patch_sizes": [3, 3],
    "strides": [2, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
    "num_labels": CLASSES,
    **dict.fromkeys(("hidden_dropout_prob", "classifier_dropout_prob", "drop_path_rate"), 0.0),
}
IMAGE = 5
"""The token that stands for a part of a picture."""


def on_pictures(number: int) -> dict[str, Tensor]:
    return {"pixel_values": pictures(number), "labels": classes(number)}


def on_pixels(number: int) -> dict[str, Tensor]:
    return {"pixel_values": pictures(number), "labels": classes(number, 8, 8, ignored=255)}


def on_speech(number: int) -> dict[str, Tensor]:
    sound = torch.randn(3, 8, 40, generator=seeded(number), dtype=torch.float64)
    labels = torch.randint(4, VOCABULARY, (3, 6), generator=seeded(number))
    labels[1, 3 + number :] = -100
    return {"input_features": sound, "labels": labels}


def captions(number: int) -> dict[str, Tensor]:
    """Return as many texts as pictures."""
    batch = tokens(number)
    ends = batch["attention_mask"].sum(-1) - 1
    batch["input_ids"][torch.arange(3), ends] = 2  # CLIP reads the text at its end
    images = torch.randn(3, 3, 16, 16, generator=seeded(number), dtype=torch.float64)
    return {**batch, "pixel_values": images}


def about_pictures(number: int) -> dict[str, Tensor]:
    """Return text that begins with the tokens of a picture, which are not learned."""
    batch = tokens(number, low=10)
    ids, mask = batch["input_ids"][:2], batch["attention_mask"][:2]
    ids, mask = (torch.cat([each[:, :1].expand(2, 5), each], 1) for each in (ids, mask))
    ids[:, 1:5] = IMAGE
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :5] = -100
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.randn(2, 3, 16, 16, generator=seeded(number), dtype=torch.float64),
        "labels": labels,
    }


def matching(model: Any) -> nn.Module:
    return TransformersModel.wrap(model, output="logits_per_image")


PICTURES = {
    "vit": Family(
        "ViT", maker("ViTForImageClassification", "ViTConfig", **VIT, num_labels=CLASSES),
        on_pictures, "aligned", ENCODER,
    ),
    "segformer": Family(
        "Segformer, classes of pixels",
        maker("SegformerForSemanticSegmentation", "SegformerConfig", **SEGFORMER), on_pixels,
        "aligned", ENCODER, logits=lambda model, batch: own_logits(model, batch).movedim(1, -1),
        ignored=255,
    ),
    "clip": Family(
        "CLIP",
        maker(
            "CLIPModel", "CLIPConfig", projection_dim=16, vision_config=VIT,
            text_config={**{k: v for k, v in BERT.items() if "dropout" not in k}},
        ),
        captions, "none",
        {"TransformersModel": matching},
        logits=lambda model, batch: model(**batch).logits_per_image, picture="pixel_values",
    ),
    "llava": Family(
        "LLaVA, pictures and text",
        maker(
            "LlavaForConditionalGeneration", "LlavaConfig", image_token_id=IMAGE,
            text_config={"model_type": "llama", **SIZES},
            vision_config={"model_type": "clip_vision_model", **VIT, "num_hidden_layers": 2},
            vision_feature_layer=-2, vision_feature_select_strategy="default",
        ),
        about_pictures, "next token", DECODER, padding=("right", "left"), picture="pixel_values",
    ),
    "whisper": Family(
        "Whisper",
        maker(
            "WhisperForConditionalGeneration", "WhisperConfig", num_mel_bins=8,
            max_source_positions=20, max_target_positions=32, suppress_tokens=[],
            begin_suppress_tokens=[],
            **{k: v for k, v in BART.items() if k != "max_position_embeddings"},
        ),
        on_speech, "aligned", DECODER,
    ),
}  # fmt: skip
