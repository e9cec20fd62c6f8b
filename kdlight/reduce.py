"""The driver: from logits sources and a per-row rule to one sum and one count.

How logits are evaluated is decided here and nowhere else. Positions that do not count are dropped
before anything of the width of the vocabulary is made, so nothing that stands there (a NaN, a label
outside the vocabulary) can reach a value or a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from kdlight.logits import LogitsSource

RowValues: TypeAlias = "Tensor | tuple[Tensor, dict[str, Tensor]]"
Rows: TypeAlias = Callable[..., RowValues]


class Loss(NamedTuple):
    """A sum and what it is a sum over: ``total / count`` is the mean.

    The two stay apart until all micro-batches and ranks of an optimizer step are added up; dividing
    earlier would weigh a token by the company it arrived in.

    Attributes:
        total: sum over the counted units, scalar with a graph.
        count: number of units (valid tokens for a token objective), scalar without one.
        parts: named sums over the same units, without a graph: terms of a mixture, diagnostics.
    """

    total: Tensor
    count: Tensor
    parts: Mapping[str, Tensor] = {}

    def mean(self) -> Tensor:
        """``total / count``, and 0 with a graph where nothing counted."""
        return self.total / self.count.clamp(min=1)


def token_sum(
    rows: Rows,
    student: LogitsSource,
    teacher: LogitsSource | None = None,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Loss:
    """Sum ``rows`` over the positions that ``mask`` keeps.

    Args:
        rows: ``(n, V), (n, V), (n,) -> (n,)``, or a pair of that and a dict of further ``(n,)``
            values to be summed for the log.
        student: source of ``(..., V)``.
        teacher: source of ``(..., V)`` on the same positions, or None.
        labels: aligned labels ``(...)``, or None.
        mask: boolean ``(...)``, True where a position counts; None keeps all.

    Returns:
        The sum and the number of positions kept: 0 with a graph where none is.
    """
    positions = student.shape[:-1]
    for name, shape in (
        ("teacher", None if teacher is None else teacher.shape[:-1]),
        ("labels", None if labels is None else labels.shape),
        ("mask", None if mask is None else mask.shape),
    ):
        if shape is not None and shape != positions:
            raise ValueError(
                f"{name} stands for positions of shape {tuple(shape)}, the student for"
                f" {tuple(positions)}; align them before the loss (shift and crop the batch once)"
            )
    index = None if mask is None else mask.flatten().nonzero().squeeze(-1)
    student = student.select(index)
    teacher = None if teacher is None else teacher.select(index)
    labels = _pick(labels, index)
    values, extras = split_rows(
        rows(student.logits(), None if teacher is None else teacher.logits(), labels)
    )
    count = torch.tensor(values.numel(), device=values.device)
    return Loss(values.sum(), count, {key: part.detach().sum() for key, part in extras.items()})


def _pick(labels: Tensor | None, index: Tensor | None) -> Tensor | None:
    if labels is None:
        return None
    return labels.flatten() if index is None else labels.flatten().index_select(0, index)


def split_rows(values: RowValues) -> tuple[Tensor, dict[str, Tensor]]:
    """What ``rows`` returned, always as the pair of row values and further values by name."""
    return values if isinstance(values, tuple) else (values, {})
