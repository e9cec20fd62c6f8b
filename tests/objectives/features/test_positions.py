"""Positions of features beside those of logits."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives import LossInputs
from kdlight.objectives.features.positions import (
    position_weights,
    unpadded_positions,
    valid_per_sample,
    valid_positions,
)

MASK = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1]]).bool()
PADDING = torch.tensor([[1, 0], [1, 1], [1, 1]]).bool()
TOKENS = LossInputs(torch.zeros(3, 3, 5), mask=MASK, feature_masks={"a": PADDING})


def test_valid_positions_are_counted_per_sample() -> None:
    assert valid_per_sample(TOKENS).tolist() == [2, 0, 3]
    assert valid_per_sample(LossInputs(torch.zeros(2, 3, 4, 5))).tolist() == [12, 12]
    assert valid_per_sample(LossInputs(torch.zeros(2, 5))).tolist() == [1, 1]
    assert valid_per_sample(LossInputs(torch.zeros(5))).tolist() == [1]
    assert valid_per_sample(LossInputs(torch.zeros(0, 3, 5))).tolist() == []
    assert valid_per_sample(LossInputs(torch.zeros(2, 0, 5))).tolist() == [0, 0]


def test_the_mask_of_the_logits_holds_at_their_positions() -> None:
    assert valid_positions(TOKENS, "a", MASK.shape) is MASK
    assert valid_positions(LossInputs(torch.zeros(2, 5)), "a", torch.Size([2])) is None


def test_elsewhere_samples_with_a_valid_position_are_valid_but_for_padding() -> None:
    found = valid_positions(TOKENS, "a", PADDING.shape)
    assert found is not None
    assert found.int().tolist() == [[1, 0], [0, 0], [1, 1]]
    found = valid_positions(TOKENS, "b", torch.Size([3, 2, 2]))
    assert found is not None
    assert found.flatten(1).int().tolist() == [[1] * 4, [0] * 4, [1] * 4]
    found = valid_positions(TOKENS, "b", torch.Size([3]))
    assert found is not None
    assert found.tolist() == [True, False, True]
    assert valid_positions(LossInputs(torch.zeros(3, 3, 5)), "a", torch.Size([3, 2])) is None


def test_all_positions_but_padding() -> None:
    """Also where the mask of the logits leaves out more."""
    padding = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0]]).bool()
    inputs = LossInputs(torch.zeros(3, 3, 5), mask=MASK, feature_masks={"a": padding})
    found = unpadded_positions(inputs, "a", MASK.shape)
    assert found is not None
    assert found.int().tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("positions", [(3, 2), (3, 2, 2), (3,)])
def test_weights_of_a_sample_add_up_to_its_valid_positions(positions: tuple[int, ...]) -> None:
    shape, path = torch.Size(positions), "a" if len(positions) == 2 else "b"
    mask = valid_positions(TOKENS, path, shape)
    assert mask is not None
    weights = position_weights(TOKENS, "a", shape, mask, torch.float64)
    assert weights is not None
    assert (weights * mask).reshape(3, -1).sum(-1).tolist() == [2, 0, 3]
    assert weights.dtype == torch.float64


def test_positions_of_the_logits_weigh_1() -> None:
    assert position_weights(TOKENS, "a", MASK.shape, MASK, torch.float32) is None


def test_weights_are_in_float32_or_wider() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        weights = position_weights(TOKENS, "a", torch.Size([3, 7]), None, torch.bfloat16)
    finally:
        torch.set_default_dtype(torch.float32)
    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights[2, 0].item() == pytest.approx(3 / 7, rel=1e-7)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"feature 'a' has positions \(4, 2\), and the logits \(3,"
    ):
        valid_positions(TOKENS, "a", torch.Size([4, 2]))
    with pytest.raises(
        ValueError, match=r"feature_masks\['a'\] must have .* \(3, 4\), got \(3, 2\)"
    ):
        valid_positions(TOKENS, "a", torch.Size([3, 4]))
    inputs = LossInputs(torch.zeros(3, 5), feature_masks={"a": PADDING.float()})
    with pytest.raises(
        TypeError, match=r"feature_masks\['a'\] must be a boolean tensor, got torch.f"
    ):
        valid_positions(inputs, "a", torch.Size([3, 2]))


def test_a_path_may_have_positions_of_its_own_where_there_are_as_many() -> None:
    """The tokens of an encoder, for example, beside the logits of a decoder."""
    own = LossInputs(
        torch.zeros(2, 3, 5), mask=torch.tensor([[1, 1, 0], [1, 0, 0]]) > 0, own_positions=["a"]
    )
    shape = torch.Size([2, 3])
    assert valid_positions(own, "b", shape) is own.mask
    assert position_weights(own, "b", shape, own.mask, torch.float64) is None
    mask = valid_positions(own, "a", shape)
    assert mask is not None
    assert mask.all()
    weights = position_weights(own, "a", shape, mask, torch.float64)
    assert weights is not None
    assert torch.equal(weights * 3, torch.tensor([[2.0] * 3, [1.0] * 3], dtype=torch.float64))
