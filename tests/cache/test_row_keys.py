"""The same content has the same key in any batch."""

from __future__ import annotations

import torch

from kdlight.cache.row_keys import keyed_rows


def test_a_sequence_is_known_in_any_batch() -> None:
    ids, ignored = torch.tensor([[5, 6, 7, 0, 0]]), -100
    whole = {"input_ids": ids[:, :3], "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    alone = keyed_rows(whole)[0].key
    masked = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    left = {"input_ids": ids.roll(2, 1), "attention_mask": torch.tensor([[0, 0, 1, 1, 1]])}
    assert keyed_rows(masked)[0].key == alone != keyed_rows({"input_ids": ids})[0].key
    assert keyed_rows(left)[0] == (alone, 2, 5)
    # padding that only the labels tell of; the last token is no input of a position that counts
    labels = torch.tensor([[5, 6, 7, ignored, ignored]])
    short = keyed_rows({"input_ids": ids[:, :4], "labels": labels[:, :4]})[0]
    assert keyed_rows({"input_ids": ids, "labels": labels})[0] == short == (short.key, 0, 2)
    nothing = {"input_ids": ids, "labels": torch.full_like(ids, ignored)}
    assert keyed_rows(nothing)[0].key is None


def test_images_are_known_by_their_pixels() -> None:
    images, labels = torch.arange(8.0).view(2, 4), torch.tensor([1, 0])
    keys = [row.key for row in keyed_rows((images, labels))]
    assert keys == [row.key for row in keyed_rows((images, 1 - labels))]
    assert keys[::-1] == [row.key for row in keyed_rows((images.flip(0), labels))]
    assert len(set(keys)) == 2
    assert [row.key for row in keyed_rows({"pixels": images, "labels": labels})] == keys
