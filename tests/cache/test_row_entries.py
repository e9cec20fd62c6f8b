"""Entries of a batch belong to rows, or to all of them where their shapes do not tell."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.cache.digests import ContentDigest
from kdlight.cache.layout import Layout
from kdlight.cache.row_entries import RowEntries
from kdlight.cache.row_keys import keyed_rows

IDS = torch.tensor([[1, 9, 2], [1, 9, 3]])
"""Two rows with one image token (9) each."""


def keys(images: Tensor, ids: Tensor = IDS, **others: Any) -> list[bytes | None]:
    batch = {"input_ids": ids, "labels": ids, "pixel_values": images, **others}
    return [row.key for row in keyed_rows(batch, Layout(image_tokens=(9,)))]


def test_each_row_has_its_own_image() -> None:
    images = torch.randn(2, 3, 2, 2)
    first, second = keys(images)
    assert keys(images.flip(0), IDS.flip(0)) == [second, first]
    other = images.clone()
    other[1] += 1
    assert keys(other)[0] == first
    assert keys(other)[1] != second


def test_a_row_with_two_images_beside_one_without_has_both() -> None:
    """There are as many images as rows, but they are not one in each."""
    ids = torch.tensor([[9, 9, 2], [1, 4, 3]])
    images = torch.randn(2, 3, 2, 2)
    other = images.clone()
    other[1] += 1  # the second image of the first row
    assert keys(other, ids)[0] != keys(images, ids)[0]


def test_patches_of_all_images_belong_to_all_rows() -> None:
    patches, sizes = torch.randn(8, 5), torch.tensor([[1, 2, 2], [1, 2, 2]])
    both = keys(patches, image_grid_thw=sizes)
    other = patches.clone()
    other[7] += 1
    assert not set(both) & set(keys(other, image_grid_thw=sizes))
    wider = torch.tensor([[1, 2, 2], [1, 1, 4]])
    assert not set(both) & set(keys(patches, image_grid_thw=wider))


def test_positions_in_several_dimensions_belong_to_rows() -> None:
    batch = {"input_ids": IDS, "labels": IDS}
    positions = torch.arange(3).expand(3, 2, 3).clone()
    before = [row.key for row in keyed_rows({**batch, "position_ids": positions})]
    positions[2, 1] += 4
    after = [row.key for row in keyed_rows({**batch, "position_ids": positions})]
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_entries_inside_of_entries_count() -> None:
    entries = {"inner": {"x": torch.eye(2), "names": ["a", "b"]}, "flag": True}
    first, second = (RowEntries(entries, count=2).key(number) for number in range(2))
    assert first != second
    entries["flag"] = False
    assert RowEntries(entries, count=2).key(0) != first


def test_the_prefix_of_a_name_tells_whose_padding_is_left_out() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    keys = []
    for width in (2, 3):
        rows = RowEntries(
            {"decoder_attention_mask": mask[:, :width]}, count=2, widths={"decoder_": width}
        )
        digest = ContentDigest()
        rows.add(digest, 0, {"decoder_": slice(0, 2)})
        keys.append(digest.key())
    assert keys[0] == keys[1]
