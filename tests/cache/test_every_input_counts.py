"""A cached teacher answers for the input that it was asked about, whatever the inputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import CachedTeacher, FrozenTeacher
from kdlight.cache import cache_teacher
from tests.support import toy

V, B, T = 7, 3, 4


class Reader(nn.Module):
    """A network without tokens of its own: its logits depend on every bit of what it reads."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def forward(self, batch: Any) -> Tensor:
        seeds = torch.zeros(len(batch["input_ids"]))
        for name in self.names:
            value = batch[name]
            if isinstance(value, list):
                value = torch.tensor([float(len(each)) for each in value])
            scale = torch.arange(1.0, 1.0 + value[0].numel())
            flat = torch.nan_to_num(value.float()).clamp(-9, 9).reshape(len(seeds), -1)
            seeds = seeds + (flat * scale).sum(-1)
        ids = batch["input_ids"].float()
        waves = (ids + seeds[:, None])[..., None] * torch.arange(1.0, 1.0 + V)
        return waves.sin() * 3


def ids() -> Tensor:
    return torch.tensor([[1, 2, 3, 4]]).repeat(B, 1)


def segments() -> Tensor:
    """Masks (B, 1, T, T) of one row, of two segments, and of three."""
    mask = torch.ones(B, 1, T, T, dtype=torch.bool).tril()
    mask[1, :, 2:, :2] = False
    mask[2, :, 1:, :1] = False
    return mask


FURTHER = {
    "pixel_values": torch.arange(B * 12.0).reshape(B, 3, 2, 2),
    "input_features": torch.arange(B * 10.0).reshape(B, 5, 2).bfloat16(),
    "image_sizes": torch.tensor([[2, 3], [3, 2], [4, 4]]),
    "position_ids": torch.tensor([[0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 1, 2]]),
    "token_type_ids": torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]]),
    "decoder_input_ids": torch.tensor([[5, 6, 1, 1], [5, 6, 2, 1], [5, 6, 3, 1]]),
    "attention_mask_of_segments": segments(),
    "interior_mask": torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]]),
    "source": ["a", "bb", "ccc"],
    "is_left": torch.tensor([True, False, True]),
    "weight": torch.tensor([1.0, 2.0, float("nan")]),
}


@pytest.mark.parametrize("name", FURTHER)
def test_rows_with_the_same_ids_and_another_input_have_their_own_answer(
    name: str, tmp_path: Path
) -> None:
    entry = "attention_mask" if "mask" in name else name
    batch = {"input_ids": ids(), "labels": ids(), entry: FURTHER[name]}
    assert_cached_is_live(FrozenTeacher(Reader(entry)), [batch], tmp_path)


def assert_cached_is_live(live: Any, batches: list[Any], folder: Path) -> CachedTeacher:
    """Compare the answers to the batches in order, reversed, and row by row."""
    quiet = toy.trainer(folder)
    cached = cache_teacher(live, batches, str(folder / "cache"), k=None, bits=32, trainer=quiet)
    for batch in batches:
        size = len(batch["input_ids"])
        orders = [list(range(size)), list(range(size))[::-1], *([row] for row in range(size))]
        for order in orders:
            rows = {name: [v[i] for i in order] for name, v in batch.items()}
            rows = {n: torch.stack(v) if isinstance(v[0], Tensor) else v for n, v in rows.items()}
            got, expected = cached(rows).logits(), live(rows).logits().log_softmax(-1)
            kept = ~torch.isnan(got).any(-1)
            assert kept.sum() >= len(order)  # the last position predicts nothing
            torch.testing.assert_close(got[kept], expected[kept], rtol=1e-5, atol=1e-5)
    return cached
