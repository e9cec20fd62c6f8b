"""Sinkhorn distance between the predictions of student and teacher on the global batch."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from kdlight.checks import check_choice
from kdlight.distributed.gather import RankSizes, exchange_sizes, gather_rows, gather_source
from kdlight.losses.device_numbers import numbers_like
from kdlight.losses.log_space import widen
from kdlight.losses.optimal_transport.distances import own_distances, pair_distances
from kdlight.losses.optimal_transport.plan import check_transport
from kdlight.losses.optimal_transport.points import (
    GEOMETRIES,
    check_points,
    check_widths,
    points,
    problems,
)
from kdlight.losses.optimal_transport.sinkhorn import sinkhorn_values
from kdlight.objectives.base import Objective
from kdlight.objectives.inputs import LossInputs
from kdlight.objectives.source_distances import source_distances
from kdlight.reduce import Loss, RowProblems
from kdlight.sources import Dense, LogitsSource, Projected

OwnCosts: TypeAlias = "tuple[list[Tensor], list[Tensor]]"
"""Costs from the student's points to themselves, and from the teacher's to themselves."""


class Sinkhorn(Objective):
    """Entropic transport cost from the student's predictions to the teacher's.

    Cui et al., "Sinkhorn Distance Minimization for Knowledge Distillation", 2024. Choose it in
    addition to a divergence per position, to use the geometry of a whole batch of predictions.
    `SinkhornKD` is the paper's mixture.

    The loss is `kdlight.losses.sinkhorn` of the valid positions. In training, a problem of the
    batch geometry holds the batches of all data-parallel ranks: the loss is that of one process
    with all of them, and each rank computes the distances of its own rows only. With gradient
    accumulation each micro-batch remains a problem of its own, and the loss of an optimizer step is
    their mean, weighted by their numbers of points. The size of a problem affects the loss, and is
    logged as ``points``. In evaluation each rank has its own problems, as ranks may have different
    numbers of batches.

    The unit is a token with the batch geometry (all points have equal weight), and a problem
    (``"sequence"`` or ``"position"``) with the others.

    Args:
        temperature: divides both logits. Callbacks may change it.
        epsilon: see `kdlight.losses.sinkhorn`. Callbacks may change it.
        iterations: see `kdlight.losses.sinkhorn`, as all that follow.
        geometry: ``"batch"``, ``"sequence"`` or ``"position"``.
        reduction: ``"mean"`` or ``"sum"``; the sum grows with the (global) batch.
        gradient: ``"unrolled"``, ``"implicit"`` or ``"detached"``.
        p: 1 or 2.
        relative_epsilon: multiply epsilon by the mean cost.
        debiased: make the loss 0 at a match.
        solver: ``"torch"`` or ``"pot"``.
        gather: with the batch geometry, use the points of all ranks.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Example:
        >>> logits = torch.randn(4, 7)
        >>> Sinkhorn(debiased=True)(LossInputs(logits, logits)).mean().item()
        0.0
    """

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        epsilon: float = 0.1,
        iterations: int = 20,
        geometry: str = "batch",
        reduction: str = "mean",
        gradient: str = "unrolled",
        p: int = 1,
        relative_epsilon: bool = False,
        debiased: bool = False,
        solver: str = "torch",
        gather: bool = True,
    ) -> None:
        super().__init__()
        check_transport(epsilon=epsilon, iterations=iterations, gradient=gradient, solver=solver)
        check_points(temperature=temperature, reduction=reduction, p=p)
        check_choice("geometry", geometry, GEOMETRIES)
        self.temperature = float(temperature)
        self.epsilon = float(epsilon)
        self.iterations = iterations
        self.geometry = geometry
        self.reduction = reduction
        self.gradient = gradient
        self.p = p
        self.relative_epsilon = bool(relative_epsilon)
        self.debiased = bool(debiased)
        self.solver = solver
        self.gather = bool(gather)
        self.unit = "token" if geometry == "batch" else geometry

    def check(self, inputs: LossInputs) -> None:
        """Check that everything needed is present, and that both sides have one vocabulary."""
        super().check(inputs)
        if inputs.teacher is not None:
            check_widths(inputs.student.shape[-1], inputs.teacher.shape[-1])

    def forward(self, inputs: LossInputs) -> Loss:
        """Compute the cost of the problems of this rank, or of the one problem of all ranks."""
        self.check(inputs)
        assert inputs.teacher is not None
        if self.geometry == "batch":
            return self._one_problem(inputs, inputs.teacher)
        return self._problems(inputs, inputs.teacher)

    def row_problems(self, inputs: LossInputs) -> RowProblems | None:
        """Describe problems of consecutive rows, which have all their rows in this process.

        The teacher must have the student's positions, as a tensor or as hidden states and a head.
        """
        teacher, whole = inputs.teacher, self.geometry == "batch"
        if (
            self.geometry == "position"
            or (whole and self.gather and self.training and _has_other_ranks(inputs.group))
            or not isinstance(teacher, (Dense, Projected))
            or teacher.shape != inputs.student.shape
            or not _have_one_mask(inputs, teacher)
        ):
            return None
        found = points(inputs.student.shape, inputs.mask, geometry=self.geometry)
        sizes = tuple(each.count for each in found if each.count)
        number, is_sum = len(sizes), self.reduction == "sum"

        def value(student: Tensor, teacher: Tensor) -> Tensor:
            size = len(student)
            # the unit is a point of the one problem, or a problem
            scale = size * (size if is_sum else 1) if whole else (size * number if is_sum else 1)
            return self._dense_value(student, teacher) * scale

        def loss(values: Tensor) -> Loss:
            count = sum(sizes) if whole else number
            return _loss(values.sum(), count=count, points=sum(sizes) * (count if whole else 1))

        return RowProblems(sizes, value, loss)

    def _dense_value(self, student: Tensor, teacher: Tensor) -> Tensor:
        def distances(one: Tensor, other: Tensor) -> Tensor:
            other = other.detach()
            return pair_distances(one, other, temperature=self.temperature, p=self.p)

        costs, own_costs = [distances(student, teacher)], None
        if self.debiased:
            student_costs = own_distances(distances(student, student))
            own_costs = [student_costs], [distances(teacher, teacher)]
        return self._values(costs, own_costs)[0]

    def _one_problem(self, inputs: LossInputs, teacher: LogitsSource) -> Loss:
        (student_points,) = points(inputs.student.shape, inputs.mask)
        teacher_points = student_points
        if not _have_one_mask(inputs, teacher):
            (teacher_points,) = points(teacher.shape, inputs.valid_teacher_mask, side="teacher")
        q, r = inputs.student.select(student_points.index), teacher.select(teacher_points.index)
        student_sizes, teacher_sizes = exchange_sizes(
            (student_points.count, teacher_points.count),
            q.device,
            distributed=self.gather and self.training,
            group=inputs.group,
        )

        def distances(source: LogitsSource, others: LogitsSource, sizes: RankSizes) -> Tensor:
            return gather_rows(self._distances(inputs, source, others), sizes)

        all_r = gather_source(r, teacher_sizes)
        costs, own_costs = distances(q, all_r, student_sizes), None
        if not costs.numel():
            return _loss(costs.sum(), count=student_points.count, points=0)
        if self.debiased:
            all_q = gather_source(q, student_sizes)
            student_costs = own_distances(distances(q, all_q, student_sizes))
            own_costs = [student_costs], [distances(r, all_r, teacher_sizes)]
        count, size = student_points.count, student_sizes.total
        value = self._values([costs], own_costs)[0] * (size if self.reduction == "sum" else 1)
        # the value of a rank is its share of the points, its gradient that of its rows in the
        # whole problem
        total = count * value.detach() + size * (value - value.detach())
        return _loss(total, count=count, points=count * size)

    def _problems(self, inputs: LossInputs, teacher: LogitsSource) -> Loss:
        pairs = problems(
            inputs.student.shape,
            teacher.shape,
            inputs.mask,
            inputs.valid_teacher_mask,
            geometry=self.geometry,
        )
        selected = [(inputs.student.select(a.index), teacher.select(b.index)) for a, b in pairs]
        if not selected:
            zero = widen(inputs.student.select(slice(0)).logits()).sum()  # with a graph
            return _loss(zero, count=0, points=0)
        distances, own_costs = partial(self._distances, inputs), None
        if self.debiased:
            student_costs = [own_distances(distances(q, q)) for q, _ in selected]
            own_costs = student_costs, [distances(r, r) for _, r in selected]
        values = self._values([distances(q, r) for q, r in selected], own_costs)
        sizes = [student_points.count for student_points, _ in pairs]
        if self.reduction == "sum":
            values = values * numbers_like(sizes, values) * len(pairs)
        return _loss(values.sum(), count=len(pairs), points=sum(sizes))

    def _distances(self, inputs: LossInputs, source: LogitsSource, other: LogitsSource) -> Tensor:
        return source_distances(
            source, other, temperature=self.temperature, p=self.p, chunked=inputs.chunked
        )

    def _values(self, costs: list[Tensor], own_costs: OwnCosts | None) -> Tensor:
        with torch.autocast(costs[0].device.type, enabled=False):
            return sinkhorn_values(
                costs,
                *(own_costs or ()),
                epsilon=self.epsilon,
                relative_epsilon=self.relative_epsilon,
                iterations=self.iterations,
                gradient=self.gradient,
                solver=self.solver,
            )


def _have_one_mask(inputs: LossInputs, teacher: LogitsSource) -> bool:
    """Return whether the valid positions of student and teacher are the same."""
    same_positions = teacher.shape[:-1] == inputs.student.shape[:-1]
    return same_positions and inputs.valid_teacher_mask is inputs.mask


def _has_other_ranks(group: dist.ProcessGroup | None) -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


def _loss(total: Tensor, *, count: int, points: int) -> Loss:
    parts = {"points": total.detach().new_full((), points)}
    return Loss(total, torch.full((), count, device=total.device), parts)
