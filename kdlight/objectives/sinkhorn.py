"""Sinkhorn distance between the student's and the teacher's predictions of the global batch."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from kdlight.distributed.gather import RankSizes, exchange_sizes, gather_rows, gather_source
from kdlight.losses.log_space import widen
from kdlight.losses.optimal_transport.distances import own_distances
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
from kdlight.reduce import Loss
from kdlight.sources import LogitsSource

Within: TypeAlias = "tuple[list[Tensor], list[Tensor]]"
"""Costs of the student's points among themselves, and of the teacher's."""


class Sinkhorn(Objective):
    """Entropic transport cost from the student's predictions to the teacher's.

    Cui et al., "Sinkhorn Distance Minimization for Knowledge Distillation", 2024. Choose it for
    what a whole batch says together, beside a divergence of each position; `SinkhornKD` is the
    paper's mixture.

    `kdlight.losses.sinkhorn` on all that counts. In training, the batch geometry spans the batches
    of all data-parallel ranks: the loss is that of one process with all of them, and each rank
    measures its own rows only. Gradient accumulation does not: each micro-batch is a problem of its
    own, and a step the mean of theirs, weighed by their points. The size of a problem is part of
    the loss, and logged as ``points``. In evaluation each rank has its own problems, as ranks need
    not have as many batches.

    The unit is a token with the batch geometry (each point counts as much), and a problem
    (``"sequence"`` or ``"position"``) with the others.

    Args:
        temperature: divides both logits. May be moved by a callback.
        epsilon: see `kdlight.losses.sinkhorn`. May be moved.
        iterations: see there, as all that follows.
        geometry: ``"batch"``, ``"sequence"`` or ``"position"``.
        reduction: ``"mean"`` or ``"sum"``; the sum grows with the (global) batch.
        gradient: ``"unrolled"``, ``"implicit"`` or ``"detached"``.
        p: 1 or 2.
        relative_epsilon: epsilon times the mean cost.
        debiased: 0 at a match.
        solver: ``"torch"`` or ``"pot"``.
        gather: with the batch geometry, take in the points of all ranks.

    Raises:
        ValueError: a hyper-parameter out of range.

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
        if geometry not in GEOMETRIES:
            raise ValueError(f"geometry must be one of {', '.join(GEOMETRIES)}, got {geometry!r}")
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
        """Besides what every objective needs: one vocabulary on both sides."""
        super().check(inputs)
        if inputs.teacher is not None:
            check_widths(inputs.student.shape[-1], inputs.teacher.shape[-1])

    def forward(self, inputs: LossInputs) -> Loss:
        """The cost of the problems of ``step``, or with other ranks of their common problem."""
        self.check(inputs)
        assert inputs.teacher is not None
        if self.geometry == "batch":
            return self._one_problem(inputs, inputs.teacher)
        return self._problems(inputs, inputs.teacher)

    def _one_problem(self, inputs: LossInputs, teacher: LogitsSource) -> Loss:
        (ours,) = points(inputs.student.shape, inputs.mask)
        (theirs,) = points(teacher.shape, inputs.valid_teacher_mask, side="teacher")
        q, r = inputs.student.select(ours.index), teacher.select(theirs.index)
        of_student, of_teacher = exchange_sizes(
            (ours.count, theirs.count),
            q.device,
            distributed=self.gather and self.training,
            group=inputs.group,
        )

        def far(source: LogitsSource, others: LogitsSource, shares: RankSizes) -> Tensor:
            return gather_rows(self._distances(inputs, source, others), shares)

        every = gather_source(r, of_teacher)
        costs, within = far(q, every, of_student), None
        if not costs.numel():
            return _loss(costs.sum(), count=ours.count, points=0)
        if self.debiased:
            of_itself = own_distances(far(q, gather_source(q, of_student), of_student))
            within = [of_itself], [far(r, every, of_teacher)]
        size = of_student.total
        value = self._values([costs], within)[0] * (size if self.reduction == "sum" else 1)
        # each rank reports its share of the points, and goes back through its rows of all of it
        total = ours.count * value.detach() + size * (value - value.detach())
        return _loss(total, count=ours.count, points=ours.count * size)

    def _problems(self, inputs: LossInputs, teacher: LogitsSource) -> Loss:
        found = problems(
            inputs.student.shape,
            teacher.shape,
            inputs.mask,
            inputs.valid_teacher_mask,
            geometry=self.geometry,
        )
        sides = [(inputs.student.select(a.index), teacher.select(b.index)) for a, b in found]
        if not sides:
            nothing = widen(inputs.student.select(slice(0)).logits()).sum()
            return _loss(nothing, count=0, points=0)
        far, within = partial(self._distances, inputs), None
        if self.debiased:
            within = [own_distances(far(q, q)) for q, _ in sides], [far(r, r) for _, r in sides]
        values = self._values([far(q, r) for q, r in sides], within)
        sizes = [one.count for one, _ in found]
        if self.reduction == "sum":
            values = values * torch.tensor(sizes).to(values) * len(found)
        return _loss(values.sum(), count=len(found), points=sum(sizes))

    def _distances(self, inputs: LossInputs, one: LogitsSource, other: LogitsSource) -> Tensor:
        return source_distances(
            one, other, temperature=self.temperature, p=self.p, chunked=inputs.chunked
        )

    def _values(self, costs: list[Tensor], within: Within | None) -> Tensor:
        with torch.autocast(costs[0].device.type, enabled=False):
            return sinkhorn_values(
                costs,
                *(within or ()),
                epsilon=self.epsilon,
                relative_epsilon=self.relative_epsilon,
                iterations=self.iterations,
                gradient=self.gradient,
                solver=self.solver,
            )


def _loss(total: Tensor, *, count: int, points: int) -> Loss:
    counts = torch.tensor([count, points], device=total.device)
    return Loss(total, counts[0], {"points": counts[1].to(total.dtype)})
