"""Several teachers in one fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.sources import Logits, LogitsSource, Mixture, stack
from kdlight.teachers.base import Teacher
from kdlight.teachers.batch_rows import count_rows, select_batch_rows
from kdlight.teachers.frozen import FrozenTeacher


class TeacherEnsemble(Teacher):
    """Several teachers, live or cached, that answer together or in turn.

    Without ``route_by`` they answer together: the average of their distributions. With it, each
    row of a batch goes to the teacher that the row names, and to no other.

    Args:
        teachers: by name; a network becomes a `kdlight.FrozenTeacher`.
        weights: what each counts in the average, not negative; those left out count 1.
        route_by: the field of a batch that names the teacher of every row: a list of names, or a
            tensor ``(B,)`` of their numbers in the order of ``teachers``.

    Raises:
        TypeError: teachers without names.
        ValueError: no teacher, a weight for none of them or out of range, or weights with
            ``route_by``; with a batch, a field that is not there or names nobody.

    Example:
        >>> pool = TeacherEnsemble({"a": nn.Linear(3, 5), "b": nn.Linear(3, 5)}, weights={"a": 3.0})
        >>> pool(torch.zeros(2, 3)).logits().exp().sum(-1).round(decimals=4)
        tensor([1., 1.])
    """

    def __init__(
        self,
        teachers: Mapping[str, nn.Module | Teacher],
        *,
        weights: dict[str, float] | None = None,
        route_by: str | None = None,
    ) -> None:
        if not isinstance(teachers, Mapping):
            raise TypeError(
                "teachers must map names to teachers, as in {'large': ..., 'small': ...}, got"
                f" {type(teachers).__name__}"
            )
        if not teachers:
            raise ValueError("teachers must name at least one teacher, got none")
        weights = weights or {}
        for name, weight in weights.items():
            if name not in teachers or not 0 <= weight < inf:
                raise ValueError(
                    f"weights must be of {[*teachers]}, not negative and finite, got {name}:"
                    f" {weight}"
                )
        if route_by is not None and weights:
            raise ValueError("a row that is routed has one teacher: leave out weights, or route_by")
        self.by_name = {
            name: each if isinstance(each, Teacher) else FrozenTeacher(each)
            for name, each in teachers.items()
        }
        self.route_by = route_by
        each = [float(weights.get(name, 1.0)) for name in teachers]
        if not sum(each) > 0:
            raise ValueError(f"weights must not all be 0, got {weights}")
        self.weights = tuple(weight / sum(each) for weight in each)

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Return the average of all teachers, or the logits of the teacher that each row names."""
        teachers = [*self.by_name.values()]
        if self.route_by is None:
            sources = [teacher.answer(batch, student, labels) for teacher in teachers]
            return Mixture(tuple(sources), self.weights, tuple(self.by_name))
        if self.is_sharded:
            raise ValueError(
                "route_by sends some ranks no row for a teacher, but one that is sharded"
                " (shard=True) needs all ranks at once; set shard=False"
            )
        owners = self._owners(batch)
        queried = owners.unique().tolist()
        rows = [(owners == number).nonzero().flatten() for number in queried]
        sources = [
            teachers[number](select_batch_rows(batch, own))
            for number, own in zip(queried, rows, strict=True)
        ]
        positions = torch.Size([count_rows(batch), *sources[0].shape[1:-1]])
        return stack(sources, rows, positions, _device(batch))

    def teachers(self) -> Iterable[Teacher]:
        """Return the teachers."""
        return self.by_name.values()

    def _owners(self, batch: Any) -> Tensor:
        assert self.route_by is not None
        names = [*self.by_name]
        try:
            field = batch[self.route_by]
        except (KeyError, TypeError, IndexError) as error:
            found = [*batch] if hasattr(batch, "keys") else type(batch).__name__
            raise ValueError(
                f"route_by={self.route_by!r} is no field of this batch: {found}"
            ) from error
        if isinstance(field, Tensor):
            owners = field.cpu().long()
        else:
            owners = torch.tensor([names.index(n) if n in names else -1 for n in field])
        if len(owners) and not 0 <= int(owners.min()) <= int(owners.max()) < len(names):
            shown = field.tolist() if isinstance(field, Tensor) else field
            raise ValueError(
                f"field {self.route_by!r} names a teacher that is not among {names}: {shown}"
            )
        return owners


def _device(batch: Any) -> torch.device:
    values = batch.values() if hasattr(batch, "values") and not isinstance(batch, Tensor) else batch
    tensors = [batch] if isinstance(batch, Tensor) else values
    return next(each.device for each in tensors if isinstance(each, Tensor))
