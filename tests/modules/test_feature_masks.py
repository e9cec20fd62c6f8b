"""Padding of features is known by the mask of the batch, or by the frames of a model of sound."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from kdlight.modules.feature_masks import feature_masks

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def test_features_with_the_positions_of_the_mask_have_it() -> None:
    shapes = {"tokens": (2, 4, 8), "shorter": (2, 3, 8), "vectors": (2, 4), "map": (2, 4, 8, 8)}
    features = {path: torch.zeros(shape) for path, shape in shapes.items()}
    masks = feature_masks(features, {"attention_mask": MASK}, nn.Linear(2, 3))
    assert list(masks) == ["tokens"]
    assert torch.equal(masks["tokens"], MASK.bool())
    assert feature_masks(features, (torch.zeros(2, 4),)) == {}


def test_frames_of_sound_have_the_mask_of_their_model() -> None:
    sizes: dict[str, Any] = {
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 5},
        **{"conv_dim": [8, 8], "conv_kernel": [4, 4], "conv_stride": [4, 4]},
        **{"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "intermediate_size": 16},
    }
    network = Wav2Vec2ForCTC(Wav2Vec2Config(**sizes, num_conv_pos_embedding_groups=2))
    mask = (torch.arange(320) < torch.tensor([[320], [160]])).long()
    features = {"frames": torch.zeros(2, 20, 16)}  # of 16 samples each
    found = feature_masks(features, {"attention_mask": mask}, network)
    assert torch.equal(found["frames"], torch.arange(20) < torch.tensor([[20], [10]]))
    assert feature_masks(features, {"attention_mask": mask}) == {}
