"""A layout tells which positions count, and what shape the logits have."""

from __future__ import annotations

import pytest
import torch

from kdlight.cache.layout import Layout, decoder_ids

IDS = torch.tensor([[5, 6, 7, 0]])
MASK = torch.tensor([[1, 1, 1, 0]])


def test_the_rule_of_the_labels_decides_which_positions_count() -> None:
    labels = torch.tensor([[-100, 6, 7, -100]])
    batch = {"input_ids": IDS, "labels": labels}

    def counted(*options: object, **others: object) -> object:
        valid = Layout(*options, **others).valid_positions(batch)  # type: ignore[arg-type]
        return None if valid is None else valid.tolist()[0]

    assert counted("causal") == [True, True, False, False]
    assert counted("aligned") == [False, True, True, False]
    assert counted("aligned", 7) == [False, True, False, False]
    assert counted("none") is None
    assert Layout(place="row").valid_positions({"input_ids": IDS}) is None


def test_pairs_and_batches_without_tokens_are_not_shifted() -> None:
    labels = torch.tensor([1, -100])
    for batch in ((torch.zeros(2, 3), labels), {"x": torch.zeros(2, 3), "labels": labels}):
        valid = Layout(place="row").valid_positions(batch)
        assert valid is not None
        assert valid.tolist() == [True, False]


def test_the_teachers_own_entries_are_all_that_it_reads() -> None:
    mask = torch.tensor([[True, False]])
    batch = {"input_ids": IDS, "teacher_input_ids": IDS[:, :2], "teacher_mask": mask}
    layout = Layout(place="teacher_tokens")
    assert [*layout.view(batch)] == ["input_ids"]
    assert layout.shape(batch, 1) == (1, 2)
    valid = layout.valid_positions(batch)
    assert valid is not None
    assert torch.equal(valid, mask)


def test_a_decoder_has_positions_of_its_own() -> None:
    labels = torch.zeros(1, 9)
    layout = Layout("aligned", place="decoder")
    assert layout.shape({"input_ids": IDS, "labels": labels}, 1) == (1, 9)
    decoder = {"decoder_input_ids": labels[:, :3], "labels": labels}
    assert layout.shape(decoder, 1) == (1, 3)
    with pytest.raises(ValueError, match="have 'decoder_input_ids' or 'labels', got \\['x'\\]"):
        decoder_ids({"x": IDS})


def test_maps_have_the_shape_of_their_labels() -> None:
    layout = Layout("aligned", place="row", positions=(4, 4))
    images = torch.zeros(2, 3, 8, 6)
    assert layout.shape({"image": images, "labels": torch.zeros(2, 8, 6)}, 2) == (2, 8, 6)
    assert layout.shape({"image": images}, 2) == (2, 4, 4)
