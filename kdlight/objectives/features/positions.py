"""The positions of a feature: which are valid, and how much each counts."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.objectives.inputs import LossInputs


def valid_per_sample(inputs: LossInputs) -> Tensor:
    """Return the number of valid positions of each sample among the logits, ``(B,)``.

    Example:
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> valid_per_sample(LossInputs(torch.zeros(2, 2, 5), mask=mask))
        tensor([2, 1])
    """
    positions = inputs.student.shape[:-1]
    mask = inputs.mask
    if mask is None:
        mask = torch.ones(positions, dtype=torch.bool, device=inputs.student.device)
    return _per_sample(mask)


def stands_at_logits(inputs: LossInputs, path: str, positions: torch.Size) -> bool:
    """Return whether a feature of the student has the positions of the logits.

    Example:
        >>> inputs = LossInputs(torch.zeros(2, 3, 5), own_positions={"encoder"})
        >>> [stands_at_logits(inputs, path, torch.Size([2, 3])) for path in ("encoder", "decoder")]
        [False, True]
    """
    return positions == inputs.student.shape[:-1] and path not in inputs.own_positions


def valid_positions(inputs: LossInputs, path: str, positions: torch.Size) -> Tensor | None:
    """Return the mask of valid positions of a feature of the student; None if all are.

    Where a feature has the positions of the logits, see `stands_at_logits`, the mask is theirs.
    Otherwise it is that of `unpadded_positions`.

    Args:
        inputs: with ``feature_masks`` of the padding of the student's features.
        path: the student's path.
        positions: the shape of the feature without its channels, ``(B, ...)``.

    Raises:
        ValueError: the feature has another number of samples than the logits, or its mask another
            shape.
        TypeError: its mask is not boolean.

    Example:
        >>> mask = torch.tensor([True, False])
        >>> valid_positions(LossInputs(torch.zeros(2, 5), mask=mask), "a", torch.Size([2, 3]))
        tensor([[ True,  True,  True],
                [False, False, False]])
    """
    if stands_at_logits(inputs, path, positions):
        return inputs.mask
    return unpadded_positions(inputs, path, positions)


def unpadded_positions(inputs: LossInputs, path: str, positions: torch.Size) -> Tensor | None:
    """Return the mask of all positions but padding in samples with a valid one; None if all are.

    Arguments and errors are those of `valid_positions`.

    Example:
        >>> mask = torch.tensor([[True, False], [False, False]])
        >>> unpadded_positions(LossInputs(torch.zeros(2, 2, 5), mask=mask), "a", mask.shape)
        tensor([[ True,  True],
                [False, False]])
    """
    counts = valid_per_sample(inputs)
    if positions[:1] != counts.shape:
        raise ValueError(
            f"the feature {path!r} has positions {tuple(positions)}, and the logits"
            f" {tuple(inputs.student.shape[:-1])}: the first axis of both must be that of samples"
        )
    padding = (inputs.feature_masks or {}).get(path)
    if padding is not None and padding.dtype is not torch.bool:
        raise TypeError(f"feature_masks[{path!r}] must be a boolean tensor, got {padding.dtype}")
    if padding is not None and padding.shape != positions:
        raise ValueError(
            f"feature_masks[{path!r}] must have the positions of the feature, {tuple(positions)},"
            f" got {tuple(padding.shape)}"
        )
    if inputs.mask is None:
        return padding
    is_counted = (counts > 0).reshape(-1, *[1] * (len(positions) - 1)).expand(positions)
    return is_counted if padding is None else is_counted & padding


def position_weights(
    inputs: LossInputs,
    path: str,
    positions: torch.Size,
    mask: Tensor | None,
    dtype: torch.dtype,
) -> Tensor | None:
    """Return the weight of each position of a feature, ``(B, ...)``; None if all weigh 1.

    The positions of a sample have the same weight, and add up to the number of its valid positions
    among the logits.

    Args:
        inputs: the logits and their mask.
        path: the student's path.
        positions: the shape of the feature without its channels.
        mask: from `valid_positions`.
        dtype: that of the feature; the weights are in float32 or wider.

    Example:
        >>> inputs = LossInputs(torch.zeros(1, 3, 5))  # a sequence of three tokens beside a map
        >>> position_weights(inputs, "a", torch.Size([1, 2, 2]), None, torch.float32)
        tensor([[[0.7500, 0.7500],
                 [0.7500, 0.7500]]])
    """
    if stands_at_logits(inputs, path, positions):
        return None
    # not a quotient of integers, whose dtype is the default of a run, maybe half precision
    counts = valid_per_sample(inputs).to(torch.promote_types(dtype, torch.float32))
    sizes = positions[1:].numel() if mask is None else _per_sample(mask).clamp(min=1)
    return (counts / sizes).reshape(-1, *[1] * (len(positions) - 1)).expand(positions)


def _per_sample(mask: Tensor) -> Tensor:
    """Count what is True in each sample, ``(B, ...) -> (B,)``; without axes it is one sample."""
    mask = mask if mask.dim() else mask.unsqueeze(0)
    return mask.reshape(len(mask), mask.shape[1:].numel()).sum(-1)
