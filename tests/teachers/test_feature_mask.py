"""Masks of features of several shapes."""

from __future__ import annotations

import pytest
import torch

from kdlight.teachers.feature_mask import FeatureMask


def test_the_width_is_the_largest_multiple_of_the_heads_up_to_half_the_channels() -> None:
    widths = {size: FeatureMask(size).width for size in (6, 11, 12, 64)}
    assert widths == {6: 3, 11: 3, 12: 6, 64: 30}
    mask = FeatureMask(64)
    assert mask.expand.weight.shape == (30 * 64, 64)


def test_a_mask_is_that_of_the_layers() -> None:
    torch.manual_seed(0)
    mask, feature = FeatureMask(8, heads=2).double(), torch.randn(3, 8).double()
    channels = mask.expand(feature).reshape(3, 8, mask.width)
    attended = mask.attention(channels, channels, channels)[0]
    expected = (attended @ mask.contract.weight.T + mask.contract.bias)[..., 0].sigmoid()
    torch.testing.assert_close(mask(feature), expected)
    assert ((expected > 0) & (expected < 1)).all()


def test_tokens_do_not_see_each_other() -> None:
    mask, feature = FeatureMask(8), torch.randn(2, 5, 8)
    whole = mask(feature)
    assert whole.shape == (2, 5, 8)
    torch.testing.assert_close(whole[:, :3], mask(feature[:, :3]))
    torch.testing.assert_close(whole[1, 4], mask(feature[1, 4:5])[0])


def test_a_map_has_a_mask_of_its_channels() -> None:
    mask, feature = FeatureMask(8), torch.randn(2, 8, 3, 4)
    found = mask(feature)
    assert found.shape == (2, 8, 1, 1)
    torch.testing.assert_close(found[:, :, 0, 0], mask(feature.mean((2, 3))))
    assert (feature * found).shape == feature.shape


def test_it_has_the_dtype_of_the_feature() -> None:
    assert FeatureMask(8)(torch.randn(2, 8).bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "size must be .* got 0"),
        ((8, 0), "heads must be .* got 0"),
        ((5, 3), "heads must be at most 2 for a feature of 5 channels, got 3"),
    ],
)
def test_sizes_are_checked(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureMask(*arguments)


def test_a_feature_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"made for 8 channels, .* \(2, 6\); pass sizes="):
        FeatureMask(8)(torch.zeros(2, 6))
