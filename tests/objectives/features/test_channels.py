"""The axis of the channels: found by the number of axes, or given."""

from __future__ import annotations

import pytest
import torch

from kdlight.objectives.features.channels import channel_axis, channels_last, check_channels


def test_channels_become_the_last_axis() -> None:
    shapes = {(2, 3): None, (2, 3, 4): None, (2, 4, 3): 1, (2, 3, 5, 6): None, (2, 5, 6, 3): 3}
    last = [channels_last(torch.zeros(shape), dim).shape for shape, dim in shapes.items()]
    assert last == [(2, 3), (2, 3, 4), (2, 3, 4), (2, 5, 6, 3), (2, 5, 6, 3)]
    with pytest.raises(ValueError, match=r"channel_dim must be an axis after that of samples, got"):
        channels_last(torch.zeros(2, 3), 2)


def test_the_axis_is_counted_from_the_start() -> None:
    assert channel_axis(torch.zeros(2, 3, 4), -2) == 1
    for axis in (0, -3, 3):
        with pytest.raises(ValueError, match="channel_dim must be an axis after that of samples"):
            channel_axis(torch.zeros(2, 3, 4), axis)


def test_different_numbers_of_channels_are_refused() -> None:
    check_channels(3, 3, "a")
    with pytest.raises(ValueError, match="'a' of the student has 3 channels, and that of the"):
        check_channels(3, 5, "a")
