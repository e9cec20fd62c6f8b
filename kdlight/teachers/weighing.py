"""Weights of teachers at each position: by their logits, the labels, or a field of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.losses.labels import IGNORE_INDEX
from kdlight.losses.log_space import widen
from kdlight.sources import ConfidenceWeights, EntropyWeights, GivenWeights, PositionWeights

CONFIDENCE, ENTROPY = "confidence", "entropy"


class Weighing:
    """A rule for the weights of teachers, which is evaluated batch by batch.

    Args:
        rule: ``"confidence"``, ``"entropy"``, or the field of a batch that holds the weights.
        names: the names of the teachers, in their order.

    Example:
        >>> Weighing("w", ["a", "b"])({"w": torch.tensor([[3.0, 1.0]])}, torch.Size([1]), None)
        GivenWeights(weights=tensor([[0.7500, 0.2500]]))
    """

    def __init__(self, rule: str, names: Sequence[str]) -> None:
        self.rule, self.names = rule, [*names]

    @property
    def field(self) -> str | None:
        """The field of a batch that holds the weights, if that is the rule."""
        return None if self.rule in (CONFIDENCE, ENTROPY) else self.rule

    @property
    def needs_labels(self) -> bool:
        """Whether labels are read: for the confidence, or to know which positions are ignored."""
        return self.rule != ENTROPY

    def check_labels(self, rule: str) -> None:
        """Raise a ValueError where a module has no labels, but the weights need them."""
        if self.rule == CONFIDENCE and rule == "none":
            raise ValueError(
                self._missing_labels("labels='none' of the module says there are none")
            )

    def __call__(self, batch: Any, positions: torch.Size, labels: Tensor | None) -> PositionWeights:
        """Return the weights for a batch.

        Args:
            batch: the batch.
            positions: the shape ``(B, ...)`` of the positions of the logits.
            labels: aligned labels ``(B, ...)``, -100 at invalid positions, or None.

        Raises:
            ValueError: The labels or the field are missing, or are not what the rule needs.
        """
        if self.rule == ENTROPY:
            return EntropyWeights()
        if self.field is not None:
            values = read_field(batch, self.field, "weigh_by")
            given = weights_at_positions(self.field, values, self.names, positions, labels)
            return GivenWeights(given)
        if labels is None:
            raise ValueError(self._missing_labels("there are none"))
        if labels.is_floating_point() or labels.shape != positions:
            raise ValueError(
                self._missing_labels(
                    f"these are {labels.dtype} {tuple(labels.shape)} and not the number of a class"
                    f" at each of the positions {tuple(positions)}"
                )
            )
        return ConfidenceWeights(labels)

    def _missing_labels(self, found: str) -> str:
        return (
            f"weigh_by={self.rule!r} compares the teachers with the labels, but {found}. If the"
            " batch has labels, pass them on: teacher.answer(batch, labels=...), with"
            " self.aligned_labels(batch) where a module defines teacher_logits; an AlignedTeacher"
            " passes none on, so put one around each teacher instead of around the ensemble."
            f" Without labels use weigh_by={ENTROPY!r}"
        )


def read_field(batch: Any, field: str, argument: str) -> Any:
    """Return the entry ``field`` of a batch, which ``argument`` of a teacher names.

    Raises:
        ValueError: The batch has no such entry.

    Example:
        >>> read_field({"whose": ["a", "b"]}, "whose", "route_by")
        ['a', 'b']
    """
    try:
        return batch[field]
    except (KeyError, TypeError, IndexError) as error:
        has_names = hasattr(batch, "keys")
        fields = f"which has {[*batch]}" if has_names else f"a {type(batch).__name__} without names"
        known = f"; or set {CONFIDENCE!r} or {ENTROPY!r}" if argument == "weigh_by" else ""
        raise ValueError(
            f"{argument}={field!r} is not a field of the batch, {fields}{known}"
        ) from error


def without_field(batch: Any, field: str) -> Any:
    """Return the batch without an entry that is no input of a teacher.

    Example:
        >>> without_field({"x": 1, "whose": 2}, "whose")
        {'x': 1}
    """
    if not isinstance(batch, Mapping):
        return batch
    return {name: each for name, each in batch.items() if name != field}


def weights_at_positions(
    field: str, values: Any, names: Sequence[str], positions: torch.Size, labels: Tensor | None
) -> Tensor:
    """Return the weights of K teachers at each position, in sum 1.

    Args:
        field: the name of the field, for errors.
        values: what the batch has there: weights ``(B, K)`` of rows, or ``(B, ..., K)`` of
            positions.
        names: the names of the teachers.
        positions: the shape ``(B, ...)`` of the positions.
        labels: aligned labels ``(B, ...)``, or None. Where they are -100, weights may be anything.

    Raises:
        ValueError: The field is no tensor of such a shape, or has a row with a negative or infinite
            weight, or without one above 0.

    Example:
        >>> rows = torch.tensor([[3.0, 1.0]])
        >>> weights_at_positions("w", rows, ["a", "b"], torch.Size([1, 2]), None)
        tensor([[[0.7500, 0.2500],
                 [0.7500, 0.2500]]])
    """
    shapes = [(positions[0], len(names)), (*positions, len(names))]
    if not isinstance(values, Tensor) or tuple(values.shape) not in shapes:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        wanted = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ValueError(
            f"the field {field!r} of the batch must have weights of the teachers {[*names]}, in"
            f" this order: a tensor {wanted}, got {got}"
        )
    weights = widen(values if values.is_floating_point() else values.float())
    if weights.dim() == 2 and len(positions) > 1:
        weights = weights.view(len(weights), *(1 for _ in positions[1:]), -1)
    weights = weights.expand(*positions, len(names))
    total = weights.sum(-1, keepdim=True)
    wrong = ~(weights >= 0).all(-1) | ~total.isfinite().squeeze(-1) | ~(total > 0).squeeze(-1)
    if labels is not None and labels.shape == positions:
        ignored = (labels == IGNORE_INDEX).to(wrong.device)
        weights = weights.masked_fill((wrong & ignored).unsqueeze(-1), 1.0)
        total, wrong = weights.sum(-1, keepdim=True), wrong & ~ignored
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        where = f"row {place[0]}" + (f", position {place[1:]}" if len(place) > 1 else "")
        shown = weights[tuple(place)].tolist()
        raise ValueError(
            f"the weights of the teachers {[*names]} in the field {field!r} of the batch must be"
            f" finite, not negative, and not all 0, got {shown} in {where}; correct the data, or"
            " give the row the label -100"
        )
    return weights / total
