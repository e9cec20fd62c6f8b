"""The axis of a feature that holds its channels."""

from __future__ import annotations

from torch import Tensor


def channel_axis(feature: Tensor, channel_dim: int | None = None) -> int:
    """Return the axis of the channels of a feature, counted from 0.

    Args:
        feature: ``(B, D)``, ``(B, T, D)``, or a map ``(B, C, ...)`` of four axes or more.
        channel_dim: the axis of the channels; None for the last of at most three axes, and axis 1
            of a map.

    Raises:
        ValueError: the feature has no such axis, or it is the axis of samples.

    Example:
        >>> import torch
        >>> channel_axis(torch.zeros(2, 5, 3)), channel_axis(torch.zeros(2, 3, 4, 4))
        (2, 1)
    """
    if channel_dim is None:
        return 1 if feature.dim() > 3 else feature.dim() - 1
    if not -feature.dim() < channel_dim < feature.dim() or channel_dim == 0:
        raise ValueError(
            f"channel_dim must be an axis after that of samples, got {channel_dim} for a feature of"
            f" shape {tuple(feature.shape)}"
        )
    return channel_dim % feature.dim()


def channels_last(feature: Tensor, channel_dim: int | None = None) -> Tensor:
    """Move the channels of a feature to its last axis, see `channel_axis`.

    Example:
        >>> import torch
        >>> channels_last(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 4, 4, 3])
    """
    return feature.movedim(channel_axis(feature, channel_dim), -1)


def check_channels(student: int, teacher: int, path: str) -> None:
    """Raise a ValueError for features of different numbers of channels.

    Example:
        >>> check_channels(3, 5, "a")
        Traceback (most recent call last):
        ValueError: the feature 'a' of the student has 3 channels, and that of the teacher 5; ...
    """
    if student != teacher:
        raise ValueError(
            f"the feature {path!r} of the student has {student} channels, and that of the teacher"
            f" {teacher}; a projector makes them equal: leave projector at 'auto' and call"
            " bind(student, teacher), as modules do; pass sizes if the widths it found are wrong"
        )
