"""One row for each sample of a batch, from features of any shape."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.objectives.features.channels import channel_axis
from kdlight.objectives.features.positions import valid_positions
from kdlight.objectives.features.selected_samples import selected_samples
from kdlight.objectives.inputs import LossInputs

Pooling = Literal["auto", "mean", "flatten"]
POOLINGS = ("auto", "mean", "flatten")


def sample_rows(
    student: Tensor, teacher: Tensor, inputs: LossInputs, path: str, pooling: Pooling
) -> tuple[Tensor, Tensor]:
    """Return a row of each sample that has a valid position, ``(n, D_s), (n, D_t)``.

    Args:
        student: feature ``(B, D)``, ``(B, T, D)`` or ``(B, C, ...)``.
        teacher: the same for the teacher.
        inputs: the logits and masks.
        path: the student's path.
        pooling: ``"mean"`` over valid positions (all but the last axis; of four axes or more, all
            but axis 1), ``"flatten"``, where invalid positions are 0, or ``"auto"``: the mean of
            ``(B, T, D)``, whose samples may have different lengths, and all entries of a map.

    Returns:
        The rows in float32 or wider.

    Raises:
        ValueError: features without an axis of samples, or whose masked positions differ.

    Example:
        >>> one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        >>> sample_rows(one, one, LossInputs(torch.zeros(1, 5)), "a", "auto")[0]
        tensor([[2., 3.]])
    """
    for name, feature in (("student", student), ("teacher", teacher)):
        if feature.dim() < 2:
            raise ValueError(
                f"the feature of the {name} in the pair of {path!r} must be (samples, ...), got"
                f" {tuple(feature.shape)}"
            )
    ours, theirs, _ = selected_samples(student, teacher, inputs, path)
    mask = valid_positions(inputs, path, _positions(student))
    if mask is not None:
        own = mask if inputs.mask is None else selected_samples(mask, mask, inputs, path)[0]
        mask = None if bool(own.all()) else own
    if mask is not None and mask.shape != _positions(theirs):
        raise ValueError(
            f"some positions of the feature {path!r} are masked, and those of the teacher's differ:"
            f" {tuple(_positions(student))} and {tuple(_positions(teacher))}; choose paths of the"
            " same resolution"
        )
    return _rows(widen(ours), mask, pooling), _rows(widen(theirs), mask, pooling)


def _positions(feature: Tensor) -> torch.Size:
    """Return the shape of a feature without its channels."""
    shape, channels = feature.shape, channel_axis(feature)
    return torch.Size([*shape[:channels], *shape[channels + 1 :]])


def _rows(feature: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Pool ``(n, ...) -> (n, D)`` over the positions in ``mask``, or all."""
    if mask is not None:
        feature = feature.masked_fill(~mask.unsqueeze(channel_axis(feature)), 0.0)
    axes = [axis for axis in range(1, feature.dim()) if axis != channel_axis(feature)]
    if not axes or pooling == "flatten" or (pooling == "auto" and len(axes) > 1):
        return feature.flatten(1)
    if mask is None:
        return feature.mean(axes)
    return feature.sum(axes) / mask.flatten(1).sum(-1, keepdim=True).clamp(min=1)
