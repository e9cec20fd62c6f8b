"""Widths are told by layers, or not at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from kdlight.models.stitching import Width, make_stitch, width_of


class Own(nn.Module):
    """A module of one's own with a layer that need not be at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)


LLAMA = LlamaConfig(
    hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=5
)


@pytest.mark.parametrize(
    ("module", "first", "last"),
    [
        (nn.Linear(3, 5), Width(3), Width(5)),
        (nn.Conv1d(3, 5, 1), Width(3, 1), Width(5, 1)),
        (nn.Conv2d(3, 5, 1), Width(3, 2), Width(5, 2)),
        (nn.ConvTranspose2d(3, 5, 1), Width(3, 2), Width(5, 2)),
        (nn.BatchNorm2d(6), Width(6, 2), Width(6, 2)),
        (nn.LayerNorm([2, 7]), Width(7), Width(7)),
        (nn.Embedding(9, 4), None, Width(4)),
        (nn.TransformerEncoderLayer(4, 2, 8), Width(4), Width(4)),
        (LlamaDecoderLayer(LLAMA, 0), Width(8), Width(8)),
        (nn.Sequential(nn.Dropout(), nn.Linear(3, 5), nn.Sequential(nn.GELU())), Width(3), None),
        (nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(3, 5)), nn.Tanh()), Width(3), Width(5)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 5)), None, Width(5)),
        (nn.Sequential(), None, None),
        (nn.BatchNorm1d(6), None, None),  # of (B, C) or of (B, C, T)
        (Own(), None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_the_width_of_both_sides(
    module: nn.Module, first: Width | None, last: Width | None
) -> None:
    assert width_of(module, "input") == first
    assert width_of(module, "output") == last


@pytest.mark.parametrize(
    ("first", "second", "inputs"),
    [
        (Width(3), Width(5), torch.zeros(2, 7, 3)),
        (Width(3, 1), Width(5, 1), torch.zeros(2, 3, 7)),
        (Width(3, 2), Width(5, 2), torch.zeros(2, 3, 4, 7)),
    ],
)
def test_a_stitch_maps_channels_and_nothing_else(
    first: Width, second: Width, inputs: torch.Tensor
) -> None:
    axis = -1 - first.dims
    expected = list(inputs.shape)
    expected[axis] = 5
    stitch = make_stitch(first, second)
    assert list(stitch(inputs).shape) == expected
    assert sum(p.numel() for p in stitch.parameters()) == 3 * 5 + 5


def test_vectors_and_maps_have_no_stitch() -> None:
    with pytest.raises(ValueError, match="3 channels to 5 channels in maps of 2 axes; put a layer"):
        make_stitch(Width(3), Width(5, 2))
