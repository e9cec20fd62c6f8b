"""Padding of features is known by the mask of the batch, or by the frames of a model of sound."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration, Wav2Vec2Config, Wav2Vec2ForCTC

from kdlight import DistillationModule, MultiLabel, SingleInput
from kdlight.features import Capture
from kdlight.modules.feature_masks import feature_masks, own_positions
from kdlight.objectives import AttentionRelation, HiddenStates, Objective

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


def t5(seed: int) -> T5ForConditionalGeneration:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 4}
    sizes |= {"vocab_size": 32, "decoder_start_token_id": 0, "dropout_rate": 0.0}
    config = T5Config(**sizes)
    return T5ForConditionalGeneration(config).double()


def translations(source: int, target: int, *, padding: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 32, (2, 6), generator=generator)
    ids = torch.cat([ids, ids.new_zeros(2, source - 6)], 1) if source > 6 else ids[:, :source]
    mask = (torch.arange(source) < torch.tensor([[6], [6 - padding]])).long()
    labels = torch.randint(2, 32, (2, target), generator=generator)
    labels[0, target - 3 :] = -100
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


def value(objective: Objective, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    module = DistillationModule(t5(0), objective, t5(1))
    with torch.no_grad():
        return objective(module.loss_inputs(batch)).mean()


@pytest.mark.parametrize("target", [5, 6, 7])  # the encoder reads 6 tokens
def test_tokens_of_an_encoder_are_not_those_of_the_labels(target: int) -> None:
    batch = translations(6, target)
    outputs = []
    for network in (t5(0).eval(), t5(1).eval()):
        with Capture(network, ["encoder.block.1"]) as features, torch.no_grad():
            network(**batch)
        outputs.append(features["encoder.block.1"])
    distances = (outputs[0] - outputs[1]).square().mean(-1)
    mask, labels = batch["attention_mask"], batch["labels"] != -100
    samples, counts = (distances * mask).sum(1) / mask.sum(1), labels.sum(1)
    expected = (samples * counts).sum() / counts.sum()
    path = {"encoder.block.1": "encoder.block.1"}
    torch.testing.assert_close(value(HiddenStates(path), batch), expected, rtol=1e-12, atol=0)


def test_padding_of_an_encoder_is_none_of_its_decoder() -> None:
    path = "decoder.block.1.layer.0.SelfAttention"
    found = [
        value(
            AttentionRelation({path: path}, parts=("q", "k", "v"), heads=4),
            translations(source, 6),
        )
        for source in (6, 7, 8)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=0)


def test_logits_of_several_questions_have_positions_of_their_own() -> None:
    network = MultiLabel(SingleInput(nn.Linear(2, 3)))
    assert own_positions(network, {"net": network}) == {"net"}
