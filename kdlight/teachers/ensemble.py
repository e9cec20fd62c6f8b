"""Several teachers in one fit: their average, or one of them for each row of a batch."""

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
    """Several teachers, live or cached, that are averaged or selected by row.

    Without ``route_by``, the logits are those of the average of all distributions. With it, each
    row of a batch has the logits of the one teacher that the row names.

    Args:
        teachers: the teachers by name; a network is wrapped in a `kdlight.FrozenTeacher`.
        weights: the weight of each teacher in the average, not negative; 1 by default.
        route_by: the field of a batch that holds the teacher of every row: a list of names, or a
            tensor ``(B,)`` of indices in the order of ``teachers``.

    Raises:
        TypeError: ``teachers`` is not a mapping.
        ValueError: no teacher; a weight of an unknown name or out of range; both ``weights`` and
            ``route_by``; for a batch, a field that is missing or names no teacher.

    Example:
        >>> networks = {"a": nn.Linear(3, 5), "b": nn.Linear(3, 5)}
        >>> ensemble = TeacherEnsemble(networks, weights={"a": 3.0})
        >>> ensemble(torch.zeros(2, 3)).logits().exp().sum(-1).round(decimals=4)
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
            raise ValueError("teachers must contain at least one teacher, got none")
        weights = weights or {}
        for name, weight in weights.items():
            if name not in teachers or not 0 <= weight < inf:
                raise ValueError(
                    f"weights must be of {[*teachers]}, not negative and finite, got {name}:"
                    f" {weight}"
                )
        if route_by is not None and weights:
            raise ValueError(
                f"route_by={route_by!r} selects one teacher for each row, which needs no weights;"
                " leave out weights or route_by"
            )
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
                "with route_by, a rank may have no row for a teacher, but a sharded teacher"
                " (shard=True) needs all ranks at once; set shard=False"
            )
        owners = self._owners(batch)
        queried = owners.unique().tolist()
        rows = [(owners == number).nonzero().flatten() for number in queried]
        read = batch
        if isinstance(batch, Mapping):  # whose it is, is no input of the teacher
            read = {name: each for name, each in batch.items() if name != self.route_by}
        sources = [
            teachers[number](select_batch_rows(read, own))
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
            fields = [*batch] if hasattr(batch, "keys") else type(batch).__name__
            raise ValueError(
                f"route_by={self.route_by!r} is not a field of the batch, which has {fields}"
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
