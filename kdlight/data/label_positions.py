"""Labels beside the logits of a batch: which positions are valid, and whether values make sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models.audio_frames import frame_mask


def place_labels(labels: Tensor | None, shape: torch.Size) -> tuple[Tensor | None, Tensor | None]:
    """Return labels at the positions of logits, and the mask of valid positions.

    ============================== ================================================================
    integers ``(...)``             valid where they are not -100
    numbers ``(...)`` beside       of yes-or-no questions, see `kdlight.MultiLabel`: 0 or 1, valid
    logits ``(..., 2)``            where they are not -100 or NaN
    floats ``(..., V)``            targets of a regression, valid where no one is NaN; ``(...)`` if
                                   there is one logit
    ============================== ================================================================

    Args:
        labels: aligned labels, or None.
        shape: shape ``(..., V)`` of the logits.

    Raises:
        ValueError: If the labels do not stand at the positions of the logits.

    Example:
        >>> labels, mask = place_labels(torch.tensor([2, -100]), torch.Size([2, 5]))
        >>> mask
        tensor([ True, False])
        >>> place_labels(torch.tensor([[1.0, 0.0]]), torch.Size([1, 2, 2]))[0]
        tensor([[1, 0]])
    """
    if labels is None:
        return None, None
    positions, size = shape[:-1], shape[-1]
    if labels.shape == positions[:-1] and len(positions) > 1 and positions[-1] == 1:
        labels = labels.unsqueeze(-1)  # (B,) beside the logits (B, 1, 2) of one question
    if labels.is_floating_point():
        if size == 1 and labels.shape == positions:
            labels = labels.unsqueeze(-1)
        if labels.shape == shape:
            return labels, ~labels.isnan().any(-1)
        if size == 2 and labels.shape == positions:
            valid = ~labels.isnan() & (labels != IGNORE_INDEX)
            return labels.where(valid, IGNORE_INDEX).long(), valid
    if labels.shape != positions:
        raise ValueError(_elsewhere(labels, shape))
    if labels.is_floating_point():
        raise ValueError(
            f"labels of dtype {labels.dtype} beside logits {tuple(shape)}: classes are integers,"
            " targets of a regression have the shape of the logits, and yes-or-no questions need"
            " kdlight.MultiLabel around the network"
        )
    if labels.dtype != torch.long:
        labels = labels.long()
    return labels, labels != IGNORE_INDEX


def padding_mask(
    batch: Any, positions: torch.Size, *, is_encoder_decoder: bool, network: Any = None
) -> Tensor | None:
    """Return the mask of a batch without labels: its ``attention_mask``, if it is of the logits.

    Or that of the frames that ``network`` makes of the sound in the batch, where it is given.

    Example:
        >>> batch = {"attention_mask": torch.tensor([[1, 1, 0]])}
        >>> padding_mask(batch, torch.Size([1, 3]), is_encoder_decoder=False)
        tensor([[ True,  True, False]])
    """
    name = "decoder_attention_mask" if is_encoder_decoder else "attention_mask"
    mask = batch.get(name) if isinstance(batch, Mapping) else None
    if isinstance(mask, Tensor) and mask.shape == positions:
        return mask.bool()
    return None if is_encoder_decoder else frame_mask(network, batch, positions)


def check_answers(labels: Tensor | None, shape: torch.Size) -> None:
    """Raise a ValueError for answers to yes-or-no questions that are neither.

    Example:
        >>> check_answers(torch.tensor([[0.9, 0.1]]), torch.Size([1, 2, 2]))
        Traceback (most recent call last):
        ValueError: labels of yes-or-no questions, and of two classes, must be 0 or 1, ...
    """
    is_answers = labels is not None and labels.is_floating_point() and labels.shape != shape
    if labels is None or not is_answers or shape[-1] != 2:
        return
    known = labels[~labels.isnan() & (labels != IGNORE_INDEX)]
    if not bool(((known == 0) | (known == 1)).all()):
        raise ValueError(
            "labels of yes-or-no questions, and of two classes, must be 0 or 1, or -100 or NaN, but"
            " a batch has other numbers; to train on soft targets let a teacher return them as"
            " logits, such as torch.logit(labels)"
        )


def check_labels(
    labels: Tensor, mask: Tensor, classes: int, *, are_probabilities: bool = True
) -> None:
    """Raise a ValueError for labels that are no classes; it reads their values.

    Args:
        labels: labels at the positions of logits, see `place_labels`.
        mask: the valid positions.
        classes: number V of logits at a position.
        are_probabilities: whether the softmax of these logits is meant to be a distribution.

    Example:
        >>> check_labels(torch.tensor([7]), torch.tensor([True]), classes=5)
        Traceback (most recent call last):
        ValueError: labels must be in [0, 5), the classes of the logits, ...
    """
    if not mask.any():
        return
    if labels.is_floating_point():
        if are_probabilities and classes > 1:
            _check_no_answers(labels[mask])
        return
    low, high = labels[mask].aminmax()
    if classes == 1:
        raise ValueError(
            "the student has one logit, which is no distribution over classes, but labels are"
            f" integers up to {int(high)}; wrap the network in kdlight.MultiLabel if the logit is"
            " that of a sigmoid"
        )
    if low < 0 or high >= classes:
        wrong = int(low if low < 0 else high)
        raise ValueError(
            f"labels must be in [0, {classes}), the classes of the logits, or ignored, but a batch"
            f" has {wrong}; give ignore_index={wrong} if this value marks ignored positions, or"
            " correct the data"
        )


def _check_no_answers(labels: Tensor) -> None:
    if bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError(
            "labels are 0 and 1 in the shape of the logits, whose softmax over the last axis is one"
            " distribution; wrap the networks in kdlight.MultiLabel if each logit is a yes or no of"
            " its own, or give the numbers of the classes, labels.argmax(-1)"
        )
    if bool((labels >= 0).all()) and bool(((labels.sum(-1) - 1).abs() < 1e-3).all()):
        raise ValueError(
            "labels are probabilities of classes, but floats in the shape of the logits are targets"
            " of a regression; give the numbers of the classes, and let a teacher return"
            " probabilities as logits, log(labels)"
        )


def check_padding(labels: Tensor, mask: Tensor, batch: Any) -> None:
    """Raise a ValueError for aligned labels that count where ``attention_mask`` is 0.

    They are labels of padding, or of a decoder whose inputs have another mask.
    """
    padding = padding_mask(batch, labels.shape, is_encoder_decoder=False)
    if padding is not None and bool((mask & ~padding).any()):
        raise ValueError(
            "labels count at positions where 'attention_mask' is 0, which is padding; set these"
            " labels to -100. If the labels belong to a decoder, and 'attention_mask' to its"
            " encoder, wrap the model of transformers without other parameters, or return the"
            " labels from labels(batch) of a subclass"
        )


def _elsewhere(labels: Tensor, shape: torch.Size) -> str:
    got = f"labels {tuple(labels.shape)} do not stand at the positions of logits {tuple(shape)}"
    axes = [axis for axis in range(len(shape)) if labels.shape == shape[:axis] + shape[axis + 1 :]]
    if axes:
        return (
            f"{got}, but would if the classes were on axis {axes[0]}: give class_dim={axes[0]} to"
            " kdlight.SingleInput, or return kdlight.Dense(logits.movedim("
            f"{axes[0]}, -1)) where you compute logits yourself"
        )
    size = tuple(shape[1:-1])
    if labels.dim() == len(shape) - 1 > 2 and labels.shape[0] == shape[0]:
        return (
            f"{got}: the maps differ in size. Give labels of the size {size}, such as"
            f" labels[:, None].float() resized by F.interpolate(..., size={size}, mode='nearest');"
            " or enlarge the logits of both networks in student_logits and teacher_logits"
        )
    return (
        f"{got}: each position of the logits (..., V) needs one label. Give labels='none' if the"
        " batch has no labels of these logits, or define labels(batch)"
    )
