"""The labels of a batch beside the student's logits, and the mask of valid positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.data.label_positions import (
    check_answers,
    check_labels,
    check_padding,
    padding_mask,
    place_labels,
)
from kdlight.models import ModelKind
from kdlight.objectives import Objective


def placed_labels(
    labels: Tensor | None,
    batch: Any,
    shape: torch.Size,
    *,
    kind: ModelKind,
    network: nn.Module | None,
    objective: Objective,
    check: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Return labels at the positions of the student's logits, and the mask of valid positions.

    Args:
        labels: aligned labels of the batch, or None.
        batch: the batch, whose mask marks padding where there are no labels.
        shape: the shape of the student's logits, (..., classes).
        kind: the kind of the student.
        network: the student's network, if it is known.
        objective: what the labels are for.
        check: whether to check the values of labels, which waits for the device.

    Raises:
        ValueError: labels that do not stand at the logits, or are not what the objective needs.
    """
    positions = shape[:-1]
    if isinstance(batch, Mapping) and batch.get("labels") is None and labels is not None:
        # made of the tokens, which are no labels of a classifier of sequences
        labels = labels if labels.shape == positions else None
    if check:
        check_answers(labels, shape)
    labels, mask = place_labels(labels, shape)
    if labels is None or mask is None:
        decoder = kind.is_encoder_decoder
        padding = padding_mask(batch, positions, is_encoder_decoder=decoder, network=network)
        return None, padding
    if labels.is_floating_point() and "labels" in objective.needs:
        raise ValueError(
            f"{type(objective).__name__} needs the numbers of classes as labels, but those of a"
            " batch are floats in the shape of the logits"
        )
    if check:
        compares = objective.uses_probabilities
        check_labels(labels, mask, shape[-1], are_probabilities=compares)
        if not kind.is_encoder_decoder:
            check_padding(labels, mask, batch)
    return labels, mask
