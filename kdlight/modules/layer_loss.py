"""The loss of a student module against its teacher module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kdlight.checks import check_choice
from kdlight.losses.features.feature_distance import KINDS, feature_distance
from kdlight.losses.log_space import widen
from kdlight.objectives import LossInputs
from kdlight.objectives.features.channels import channel_axis
from kdlight.objectives.features.feature_objective import FeatureObjective, Pairs
from kdlight.objectives.features.positions import position_weights, valid_positions

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""A function of rows of student and teacher, ``(n, D), (n, D) -> (n,)``."""


class LayerLoss(FeatureObjective):
    """The distance of the outputs of two modules, position by position.

    Valid positions are those of the logits, as in `kdlight.objectives.FeatureObjective`.

    Args:
        pairs: the path of the teacher's module for each path of the student's.
        loss: a kind of `kdlight.losses.feature_distance`, or a function of the rows of valid
            positions, ``(n, D), (n, D) -> (n,)``. What a function gets of the student may have
            further axes, ``(n, ..., D)``.
        channel_dim: axis of the channels; None for the last one, and axis 1 of outputs of the
            teacher with four axes or more.

    Raises:
        ValueError: an unknown kind.

    Example:
        >>> one, two = torch.zeros(4, 8), torch.ones(4, 8)
        >>> inputs = LossInputs(one, two, student_features={"a": one}, teacher_features={"b": two})
        >>> LayerLoss({"a": "b"})(inputs).mean()
        tensor(1.)
    """

    def __init__(
        self, pairs: Pairs, loss: str | RowLoss = "mse", channel_dim: int | None = None
    ) -> None:
        super().__init__(pairs)
        if isinstance(loss, str):
            check_choice("loss", loss, KINDS)
        elif not callable(loss):
            raise TypeError(
                f"loss must be one of {', '.join(KINDS)}, or a function of the rows of student and"
                f" teacher, got {loss!r}"
            )
        self.row_loss = partial(feature_distance, kind=loss) if isinstance(loss, str) else loss
        self.channel_dim = channel_dim

    def pair_loss(self, student: Tensor, teacher: Tensor, inputs: LossInputs, pair: int) -> Tensor:
        """Return the sum over valid positions of their distance."""
        path = list(self.paths)[pair]
        axis = channel_axis(teacher, self.channel_dim)
        theirs = teacher.movedim(axis, -1)
        ours = student.movedim(axis, -1) if student.dim() == teacher.dim() else student
        positions = theirs.shape[:-1]
        if not positions or ours.shape[: len(positions)] != positions:
            raise ValueError(
                f"the module {path!r} of the student returned {tuple(student.shape)}, but that of"
                f" the teacher {tuple(teacher.shape)}: both must have the same positions"
            )
        mask = valid_positions(inputs, path, positions)
        weights = position_weights(inputs, path, positions, mask, ours.dtype)
        # rows are selected: a mask that multiplies would let NaN at masked positions through
        rows = slice(None) if mask is None else mask.flatten()
        last = len(positions) - 1
        with torch.autocast(ours.device.type, enabled=False):
            values = self.row_loss(
                widen(ours.flatten(0, last)[rows]), widen(theirs.flatten(0, last)[rows])
            )
            if values.shape != (count := theirs.flatten(0, last)[rows].shape[:1]):
                raise ValueError(
                    f"loss must return one value for each of the {count[0]} rows of {path!r}, got"
                    f" the shape {tuple(values.shape)}"
                )
            return (values if weights is None else values * weights.flatten()[rows]).sum()
