"""What a gate reads: one row for each sample of a batch that has a valid position."""

from __future__ import annotations

from torch import Tensor

from kdlight.losses.log_space import widen
from kdlight.objectives.features.positions import valid_per_sample
from kdlight.objectives.features.sample_rows import Pooling, sample_rows
from kdlight.objectives.inputs import LossInputs

STUDENT = "student"
"""Stands for the student's logits, where a path of a feature may stand as well."""


def gate_rows(inputs: LossInputs, source: str, pooling: Pooling = "auto") -> Tensor:
    """Return the rows of the samples that have a valid position, ``(n, C)``, with a graph.

    Args:
        inputs: the logits, masks and features.
        source: ``"student"`` for the student's logits, or the path of a feature of the student.
        pooling: how a feature becomes a row: ``"mean"`` over valid positions, ``"flatten"``, or
            ``"auto"``: the mean of ``(B, T, D)``, and all entries of a map.

    Raises:
        ValueError: the logits are those of sequences, or the inputs do not have the feature.

    Example:
        >>> import torch
        >>> mask = torch.tensor([True, False, True])
        >>> gate_rows(LossInputs(torch.zeros(3, 5), mask=mask), "student").shape
        torch.Size([2, 5])
    """
    if source == STUDENT:
        shape = inputs.student.shape
        if len(shape) != 2:
            raise ValueError(
                f"gate_input='student' reads one row of logits for each sample, but those of the"
                f" student are {tuple(shape)}; give the path of a feature of the student, such as"
                " gate_input='model.layers.3', whose mean over positions the gate then reads"
            )
        index = None if inputs.mask is None else inputs.valid_positions()
        logits = widen(inputs.student.select(index).logits())
        return logits.masked_fill(logits.isinf(), 0.0)  # of columns outside of the vocabulary
    features = inputs.student_features
    if features is None or source not in features:
        raise ValueError(
            f"the inputs have no feature {source!r} of the student, which the gate reads; a kdlight"
            f" module captures it, and without one pass student_features={{{source!r}: ...}}"
        )
    feature = features[source]
    return sample_rows(feature, feature, inputs, source, pooling)[0]


def row_of_each_position(inputs: LossInputs) -> Tensor:
    """Return the row of `gate_rows` that each valid position belongs to, ``(m,)``.

    Example:
        >>> import torch
        >>> mask = torch.tensor([[True, True], [False, False], [True, False]])
        >>> row_of_each_position(LossInputs(torch.zeros(3, 2, 5), mask=mask))
        tensor([0, 0, 1])
    """
    rows = (valid_per_sample(inputs) > 0).long().cumsum(0) - 1
    width = inputs.student.shape[1:-1].numel()
    return rows[inputs.valid_positions().to(rows.device) // width]
