"""Labels beside logits: which positions are valid, and values that make no sense."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight.data.label_positions import (
    check_answers,
    check_labels,
    check_padding,
    padding_mask,
    place_labels,
)


def size(*shape: int) -> torch.Size:
    return torch.Size(shape)


def test_classes_are_valid_where_they_are_not_ignored() -> None:
    labels, mask = place_labels(torch.tensor([[2, -100], [0, 1]]), size(2, 2, 5))
    assert labels is not None
    assert mask is not None
    assert labels.tolist() == [[2, -100], [0, 1]]
    assert mask.tolist() == [[True, False], [True, True]]
    assert place_labels(None, size(2, 5)) == (None, None)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_classes_of_any_integer_dtype(dtype: torch.dtype) -> None:
    labels, mask = place_labels(torch.tensor([1, 0], dtype=dtype), size(2, 5))
    assert labels is not None
    assert labels.dtype == torch.long
    assert mask is not None
    assert mask.all()


@pytest.mark.parametrize("labels", [torch.tensor([[1.0, 0.0]]), torch.tensor([[1, 0]])])
def test_answers_stand_beside_pairs_of_logits(labels: Tensor) -> None:
    placed, mask = place_labels(labels, size(1, 2, 2))
    assert placed is not None
    assert placed.tolist() == [[1, 0]]
    assert placed.dtype == torch.long
    assert mask is not None
    assert mask.all()


def test_unknown_answers_are_not_valid() -> None:
    placed, mask = place_labels(torch.tensor([[1.0, -100.0, torch.nan]]), size(1, 3, 2))
    assert placed is not None
    assert placed.tolist() == [[1, -100, -100]]
    assert mask is not None
    assert mask.tolist() == [[True, False, False]]


def test_answers_to_one_question_may_be_flat() -> None:
    for labels in (torch.tensor([1, 0]), torch.tensor([1.0, 0.0])):
        placed, _ = place_labels(labels, size(2, 1, 2))
        assert placed is not None
        assert placed.tolist() == [[1], [0]]


def test_targets_of_a_regression_have_the_shape_of_the_logits() -> None:
    labels = torch.tensor([[0.5, torch.nan], [1.5, 2.0]])
    placed, mask = place_labels(labels, size(2, 2))
    assert placed is labels
    assert mask is not None
    assert mask.tolist() == [False, True]
    flat, mask = place_labels(torch.tensor([0.5, torch.nan]), size(2, 1))
    assert flat is not None
    assert flat.shape == (2, 1)
    assert mask is not None
    assert mask.tolist() == [True, False]


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        (torch.zeros(3).long(), (2, 5), r"labels \(3,\) do not stand .* \(2, 5\)"),
        (torch.zeros(2, 4, 4).long(), (2, 5, 4, 4), "classes were on axis 1: give class_dim=1"),
        (torch.zeros(2, 8, 8).long(), (2, 4, 4, 5), r"maps differ in size.* size \(4, 4\)"),
        (torch.zeros(2, 3), (2, 3, 5), "labels of dtype torch.float32 .*classes are integers"),
        (torch.zeros(2, 1).long(), (2, 5), "Give labels='none'"),
    ],
    ids=["count", "axis", "maps", "floats", "column"],
)
def test_labels_elsewhere_are_refused(labels: Tensor, shape: tuple[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place_labels(labels, size(*shape))


def test_the_mask_of_a_batch_is_that_of_the_positions_of_its_logits() -> None:
    mask = torch.tensor([[1, 1, 0]])
    batch = {"attention_mask": mask, "decoder_attention_mask": mask[:, :2]}
    encoder = padding_mask(batch, size(1, 3), is_encoder_decoder=False)
    assert encoder is not None
    assert encoder.tolist() == [[True, True, False]]
    decoder = padding_mask(batch, size(1, 2), is_encoder_decoder=True)
    assert decoder is not None
    assert decoder.tolist() == [[True, True]]
    assert padding_mask(batch, size(1), is_encoder_decoder=False) is None
    assert padding_mask({"attention_mask": mask}, size(1, 3), is_encoder_decoder=True) is None
    assert padding_mask((mask, mask), size(1, 3), is_encoder_decoder=False) is None


ALL = torch.tensor([True, True])


@pytest.mark.parametrize("wrong", [-1, 5, 255])
def test_labels_that_are_no_classes_are_refused(wrong: int) -> None:
    labels = torch.tensor([0, wrong])
    with pytest.raises(ValueError, match=rf"in \[0, 5\).* has {wrong}; give ignore_index={wrong}"):
        check_labels(labels, ALL, 5)
    check_labels(labels, torch.tensor([True, False]), 5)
    check_labels(labels, ~ALL, 5)
    check_labels(torch.tensor([0, 4]), ALL, 5)


def test_one_logit_is_no_distribution_over_classes() -> None:
    for labels in (torch.tensor([0, 1]), torch.tensor([0, 0])):
        with pytest.raises(ValueError, match=r"one logit.*kdlight\.MultiLabel"):
            check_labels(labels, ALL, 1)


def test_answers_beside_logits_of_one_distribution_are_refused() -> None:
    answers = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match=r"labels are 0 and 1 in the shape of the logits"):
        check_labels(answers, ALL, 3)
    check_labels(answers, ALL, 3, are_probabilities=False)  # targets of a regression
    check_labels(answers * 0.5, ALL, 3)
    check_labels(answers[:, :1], ALL, 1)


def test_labels_of_padding_are_refused() -> None:
    counts, batch = torch.tensor([[True, True]]), {"attention_mask": torch.tensor([[1, 0]])}
    with pytest.raises(ValueError, match="count at positions where 'attention_mask' is 0"):
        check_padding(torch.tensor([[3, 4]]), counts, batch)
    check_padding(torch.tensor([[3, -100]]), torch.tensor([[True, False]]), batch)
    check_padding(torch.tensor([3]), torch.tensor([True]), batch)  # of sequences


def test_answers_that_are_neither_yes_nor_no_are_refused() -> None:
    pairs = torch.Size([2, 3, 2])
    check_answers(torch.tensor([[0.0, 1.0, float("nan")], [1.0, -100.0, 0.0]]), pairs)
    with pytest.raises(ValueError, match="must be 0 or 1, or -100 or NaN"):
        check_answers(torch.full((2, 3), 0.7), pairs)
    check_answers(torch.full((2, 2), 0.7), torch.Size([2, 2]))  # targets of a regression


def test_probabilities_of_classes_are_no_targets_of_a_regression() -> None:
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]])
    with pytest.raises(ValueError, match="labels are probabilities of classes"):
        check_labels(mixed, torch.ones(2, dtype=torch.bool), 3)
