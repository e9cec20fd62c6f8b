"""Frames that are made of padding do not count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdlight import DistillationModule, TransformersModel
from kdlight.models.audio_frames import frame_mask
from kdlight.objectives import CrossEntropy, ForwardKL
from tests.families.family import maker

SAMPLES = (320, 200, 260)
FRAMES = 20  # of 16 samples each
make = maker(
    "Wav2Vec2ForCTC", "Wav2Vec2Config", hidden_size=32, num_hidden_layers=1, intermediate_size=48,
    num_attention_heads=4, vocab_size=9, conv_dim=[16, 16], conv_kernel=[4, 4], conv_stride=[4, 4],
    num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    hidden_dropout=0.0, attention_dropout=0.0, final_dropout=0.0, layerdrop=0.0,
    feat_proj_dropout=0.0, activation_dropout=0.0, mask_time_prob=0.0, pad_token_id=0,
)  # fmt: skip


@pytest.fixture
def batch() -> dict[str, Any]:
    mask = (torch.arange(320) < torch.tensor(SAMPLES)[:, None]).long()
    sound = torch.randn(3, 320, dtype=torch.float64) * mask
    # as many labels as frames, which CTC does not match one by one
    return {
        "input_values": sound,
        "attention_mask": mask,
        "labels": torch.randint(9, (3, FRAMES)),
    }


@pytest.mark.parametrize("wrap", [lambda m: m, TransformersModel.wrap], ids=["as it is", "wrapped"])
@torch.no_grad()
def test_a_divergence_counts_the_frames_of_sound(batch: dict[str, Any], wrap: Any) -> None:
    student, teacher = make(0), make(1)
    q, p = (model(**batch).logits.log_softmax(-1) for model in (student, teacher))
    counts = torch.arange(FRAMES) < torch.tensor(SAMPLES)[:, None] // 16
    expected = F.kl_div(q[counts], p[counts], log_target=True, reduction="batchmean")
    module = DistillationModule(wrap(student), ForwardKL(), wrap(teacher)).eval()
    inputs = module.loss_inputs(batch)
    loss = module.objective(inputs)
    assert int(loss.count) == int(counts.sum())
    torch.testing.assert_close(loss.mean(), expected)
    assert inputs.labels is None


@torch.no_grad()
def test_labels_of_ctc_are_no_labels_of_frames(batch: dict[str, Any]) -> None:
    module = DistillationModule(make(0), CrossEntropy()).eval()
    with pytest.raises(ValueError, match="CrossEntropy needs labels"):
        module.objective(module.loss_inputs(batch))


def test_other_networks_and_masks_have_no_frames(batch: dict[str, Any]) -> None:
    model = make(0)
    assert frame_mask(nn.Linear(2, 3), batch, torch.Size([3, FRAMES])) is None
    assert frame_mask(model, {"input_values": batch["input_values"]}, torch.Size([3, 20])) is None
    assert frame_mask(model, batch["input_values"], torch.Size([3, FRAMES])) is None
    assert frame_mask(model, batch, torch.Size([2, FRAMES])) is None
    assert frame_mask(model, batch, torch.Size([3])) is None
