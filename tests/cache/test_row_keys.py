"""The same content has the same key in any batch."""

from __future__ import annotations

import torch

from kdlight.cache.layout import Layout
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


def test_keys_of_tokens_alone_are_those_of_older_caches() -> None:
    """The bytes of a key are a format: a cache that was written before is read."""
    ids = torch.tensor([[0, 5, 6, 7], [5, 6, 7, 0]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
    key = bytes.fromhex("cafbd1f110882cd8b8843502af879c79")
    assert [row.key for row in keyed_rows({"input_ids": ids, "attention_mask": mask})] == [key] * 2
    (row,) = keyed_rows({"input_ids": ids[1:], "labels": torch.tensor([[5, 6, 7, 0]])})
    assert row.key == key
    pixels = torch.arange(4.0).view(1, 4)
    (image,) = keyed_rows((pixels, torch.zeros(1, dtype=torch.long)))
    assert image.key == bytes.fromhex("8beeef85133eb49c3f143be0561184c6")


def test_positions_that_count_tokens_are_those_that_a_model_has_without_them() -> None:
    ids = torch.tensor([[0, 5, 6, 7]])
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[0, 1, 1, 1]])}
    (plain,) = keyed_rows(batch)
    (counted,) = keyed_rows({**batch, "position_ids": torch.tensor([[1, 0, 1, 2]])})
    (absolute,) = keyed_rows({**batch, "position_ids": torch.tensor([[0, 1, 2, 3]])})
    assert plain == counted != absolute


def test_labels_and_entries_of_objectives_are_no_input() -> None:
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    further = {
        "labels": ids,
        "rejected": torch.tensor([True, False]),
        "span_ids": ids,
        "index": torch.tensor([4, 5]),
        "teacher_mask": ids > 5,
    }
    assert keyed_rows({**batch, **further}) == keyed_rows(batch)


def test_a_part_of_a_pair_that_is_no_label_is_an_input() -> None:
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    plain = keyed_rows((x, y))
    assert keyed_rows((x, 1 - y)) == plain
    assert keyed_rows((x, y, torch.ones(2))) != plain
    assert keyed_rows((x, torch.rand(2)))[0] != plain[0]


def test_tokens_after_the_last_label_count_where_they_are_read() -> None:
    """A model that is not causal reads all tokens, and so does a classifier."""
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    labels = torch.tensor([[-100, 6, -100]]).repeat(2, 1)
    for layout in (Layout("aligned"), Layout(place="row")):
        one, other = keyed_rows({"input_ids": ids, "labels": labels}, layout)
        assert one.key != other.key
    one, other = keyed_rows({"input_ids": ids}, Layout(place="row"))
    assert one.key != other.key
