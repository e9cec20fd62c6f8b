"""Several teachers in one fit: their average, or one of them for each row of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.checks import check_type
from kdlight.sources import Logits, LogitsSource, Mixture, Stacked, as_source, stack
from kdlight.teachers.base import Teacher
from kdlight.teachers.batch_rows import count_rows, select_batch_rows, select_labels
from kdlight.teachers.frozen import FrozenTeacher
from kdlight.teachers.weighing import Weighing, read_field, without_field


class TeacherEnsemble(Teacher):
    r"""Several teachers, live or cached, that are averaged or selected by row.

    Without ``route_by``, the logits are those of the average of all distributions, with fixed
    weights, or with weights at each position that ``weigh_by`` sets. With ``route_by``, each row of
    a batch has the logits of the one teacher that the row names.

    Weights by ``"confidence"`` and by ``"entropy"`` are computed where the logits are, in chunks as
    well. Of K teachers with the probabilities :math:`p_k`, of entropy :math:`H_k`, the weights are

    .. math:: w_k = \frac{1}{K - 1} \Big(1 - \frac{\exp c_k}{\sum_j \exp c_j}\Big)
        \quad \text{and} \quad
        w_k = \frac{1}{K - 1} \Big(1 - \frac{H_k}{\sum_j H_j}\Big)

    where :math:`c_k = -\log p_k(y)` is the cross-entropy with the label. Confidence trusts the
    teacher that knows the answer; entropy the one that is sure, right or wrong.

    Confidence reads the labels in validation as well: ``val/forward_kl`` compares with the average
    that the student is trained on. Metrics of the teacher itself, such as ``val/teacher_accuracy``,
    are those of the average with equal weights, as the other one has seen the labels.

    The share of each teacher, its mean weight or its part of the routed positions, is logged as
    ``train/teacher/NAME/share``, over the micro-batches and ranks of a step. Shares that are nearly
    equal need not be so at each position. An objective that
    evaluates ``inputs.teachers``, and not their average ``inputs.teacher``, uses no weights, and
    none are logged. In validation, shares are logged beside the KL from each teacher to the
    student, see `kdlight.metrics.TeacherMetrics`.

    Zhang, Chen, Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", 2022; Kwon, Na, Lee,
    Kim, "Adaptive Knowledge Distillation Based on Entropy", 2020. Both weigh losses; of forward KL
    at temperature 1, that has the same gradient as the weighted average.

    Args:
        teachers: the teachers by name; a network is wrapped in a `kdlight.FrozenTeacher`.
        weights: the weight of each teacher in the average, not negative; 1 by default.
        route_by: the field of a batch that holds the teacher of every row: a list of names, or a
            tensor ``(B,)`` of indices in the order of ``teachers``.
        weigh_by: ``"confidence"``, ``"entropy"``, or the field of a batch that holds the weights in
            the order of ``teachers``: a tensor ``(B, K)``, or ``(B, T, K)`` that is aligned with
            the logits. None for ``weights``.

    Raises:
        TypeError: ``teachers`` is not a mapping; ``weigh_by`` is no string.
        ValueError: no teacher; a weight of an unknown name or out of range; two of ``weights``,
            ``weigh_by`` and ``route_by``; for a batch, a field that is missing, names no teacher,
            or has weights out of range; ``"confidence"`` without labels, or with those of a
            regression.

    Example:
        >>> networks = {"a": nn.Linear(3, 5), "b": nn.Linear(3, 5)}
        >>> ensemble = TeacherEnsemble(networks, weights={"a": 3.0})
        >>> ensemble(torch.zeros(2, 3)).logits().exp().sum(-1).round(decimals=4)
        tensor([1., 1.])
        >>> by_confidence = TeacherEnsemble(networks, weigh_by="confidence")
        >>> source = by_confidence.answer(torch.zeros(2, 3), labels=torch.tensor([4, -100]))
        >>> _ = source.logits()
        >>> round(sum(share.item() for share in source.shares.values()), 4)
        1.0
    """

    def __init__(
        self,
        teachers: Mapping[str, nn.Module | Teacher],
        *,
        weights: dict[str, float] | None = None,
        route_by: str | None = None,
        weigh_by: str | None = None,
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
        check_type("weigh_by", weigh_by, (str, type(None)), "a string")
        other = "route_by" if route_by is not None else "weights" if weights else None
        if weigh_by is not None and other is not None:
            raise ValueError(
                f"weigh_by={weigh_by!r} sets the weights of the teachers at each position, so that"
                f" {other} has nothing to do; leave out weigh_by or {other}"
            )
        self.by_name = {
            name: each if isinstance(each, Teacher) else FrozenTeacher(each)
            for name, each in teachers.items()
        }
        self.route_by = route_by
        self.weigh_by = weigh_by
        self._weighing = None if weigh_by is None else Weighing(weigh_by, [*teachers])
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
            weighing = self._weighing
            field = None if weighing is None else weighing.field
            read = batch if field is None else without_field(batch, field)
            sources = tuple(teacher.answer(read, student, labels) for teacher in teachers)
            weights: Any = self.weights
            if weighing is not None:
                weights = weighing(batch, sources[0].shape[:-1], labels)
            return Mixture(sources, weights, tuple(self.by_name))
        if self.is_sharded:
            raise ValueError(
                "with route_by, a rank may have no row for a teacher, but a sharded teacher"
                " (shard=True) needs all ranks at once; set shard=False"
            )
        queried, rows = self._rows(batch)
        read = without_field(batch, self.route_by)
        sources = [
            teachers[number].answer(
                select_batch_rows(read, own),
                _rows_of_student(student, own, teachers[number]),
                select_labels(labels, own),
            )
            for number, own in zip(queried, rows, strict=True)
        ]
        positions = torch.Size([count_rows(batch), *sources[0].shape[1:-1]])
        names, numbers = tuple(self.by_name), tuple(queried)
        return stack(sources, rows, positions, _device(batch), names=names, numbers=numbers)

    def expect(self, batch: Any) -> None:
        """Tell each teacher which rows of ``batch`` it will be asked about."""
        if self.route_by is None:
            field = None if self._weighing is None else self._weighing.field
            super().expect(batch if field is None else without_field(batch, field))
            return
        teachers, read = [*self.by_name.values()], without_field(batch, self.route_by)
        for number, own in zip(*self._rows(batch), strict=True):
            if teachers[number].is_remote:
                teachers[number].expect(select_batch_rows(read, own))

    def teachers(self) -> Iterable[Teacher]:
        """Return the teachers."""
        return self.by_name.values()

    @property
    def needs_labels(self) -> bool:
        """Whether `answer` reads labels, for its own weights or for one of the teachers."""
        own = self._weighing is not None and self._weighing.needs_labels
        return own or super().needs_labels

    def check_labels(self, rule: str, ignore_index: int) -> None:
        """Raise a ValueError where weights need labels and there are none."""
        if self._weighing is not None:
            self._weighing.check_labels(rule)
        super().check_labels(rule, ignore_index)

    def _rows(self, batch: Any) -> tuple[list[int], list[Tensor]]:
        """Return the numbers of the teachers that rows of ``batch`` name, and their rows."""
        owners = self._owners(batch)
        queried = owners.unique().tolist()
        return queried, [(owners == number).nonzero().flatten() for number in queried]

    def _owners(self, batch: Any) -> Tensor:
        assert self.route_by is not None
        names = [*self.by_name]
        field = read_field(batch, self.route_by, "route_by")
        if isinstance(field, Tensor):
            owners = field.cpu()
        else:
            named = [names.index(name) if name in names else -1 for name in field]
            owners = torch.tensor(named, dtype=torch.long)
        rows = count_rows(without_field(batch, self.route_by))
        if owners.shape != (rows,) or owners.is_floating_point():
            raise ValueError(
                f"field {self.route_by!r} of the batch must have the name of a teacher, or its"
                f" index, an integer, for each of {rows} rows, got {owners.dtype}"
                f" {tuple(owners.shape)}"
            )
        if len(owners) and not 0 <= int(owners.min()) <= int(owners.max()) < len(names):
            shown = field.tolist() if isinstance(field, Tensor) else field
            wrong = [own not in range(len(names)) for own in owners.tolist()]
            raise ValueError(
                f"field {self.route_by!r} must name one of the teachers {names}, got"
                f" {shown[wrong.index(True)]!r} in row {wrong.index(True)}"
            )
        return owners


def _device(batch: Any) -> torch.device:
    values = batch.values() if hasattr(batch, "values") and not isinstance(batch, Tensor) else batch
    tensors = [batch] if isinstance(batch, Tensor) else values
    return next(each.device for each in tensors if isinstance(each, Tensor))


def _rows_of_student(student: Logits | None, rows: Tensor, teacher: Teacher) -> Logits | None:
    """Return the student's logits of ``rows``, ``(B, ..., V) -> (n, ..., V)``, if they are read."""
    if student is None or not teacher.needs_student:
        return None
    source = as_source(student)
    positions = source.shape[1:-1]
    width = positions.numel()
    places = rows[:, None] * width + torch.arange(width)
    place = places.view(len(rows), *positions).to(source.device)
    return Stacked((source,), torch.zeros_like(place), place)
