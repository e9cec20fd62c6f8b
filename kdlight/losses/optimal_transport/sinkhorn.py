"""Sinkhorn distance between the predictions of student and teacher as two sets of points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from kdlight.losses.device_numbers import numbers_like
from kdlight.losses.log_space import widen
from kdlight.losses.optimal_transport.distances import own_distances, problem_distances
from kdlight.losses.optimal_transport.plan import check_transport
from kdlight.losses.optimal_transport.points import check_points, check_widths, problems
from kdlight.losses.optimal_transport.transport import transport_costs


def sinkhorn(
    student: Tensor,
    teacher: Tensor,
    *,
    mask: Tensor | None = None,
    teacher_mask: Tensor | None = None,
    epsilon: float = 0.1,
    iterations: int = 20,
    temperature: float = 2.0,
    geometry: str = "batch",
    reduction: str = "mean",
    gradient: str = "unrolled",
    p: int = 1,
    relative_epsilon: bool = False,
    debiased: bool = False,
    solver: str = "torch",
) -> Tensor:
    r"""Entropic transport cost between batches of predictions, (..., V), (..., V) -> ().

    .. math:: \langle P, C \rangle, \quad C_{ij} = \| q_i - p_j \|_1, \quad
              P_{ij} = e^{f_i + g_j - C_{ij} / \varepsilon}, \quad q = \operatorname{softmax}(z / T)

    Every prediction is a point, and each point of the student can be transported to several points
    of the teacher. Choose it for classifiers, whose batches have a geometry that a divergence per
    sample does not use. With the vocabulary of a language model the points are so far apart that an
    epsilon of 0.1 transports each to its own counterpart (which gives twice the total variation):
    use ``relative_epsilon`` there. The value is above 0 at a match unless ``debiased``.

    Args:
        student: Logits of q.
        teacher: Logits of p; the number of positions may differ.
        mask: True at the student's valid positions, which are its points; None means all.
        teacher_mask: True at the teacher's valid positions. None means ``mask`` if the positions
            have the same shape, else all.
        epsilon: Strength of the entropic regularization.
        iterations: Updates of both potentials, the student's first. They are part of the loss: with
            few classes its value is still far from converged.
        temperature: Divides both logits.
        geometry: ``"batch"``, all positions form one problem; ``"sequence"``, one problem per
            sequence; ``"position"``, one problem per position, across the batch.
        reduction: ``"mean"``, P has mass 1 and problems are averaged; ``"sum"``, P has mass n and
            problems are added, as the authors publish it: the value grows with the batch.
        gradient: ``"unrolled"``, through all iterations; ``"implicit"``, exact for a converged
            plan; ``"detached"``, that of a constant plan, which is cheap and incomplete.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.
        relative_epsilon: Multiply epsilon by the mean cost of each problem, without a gradient.
        debiased: Subtract the cost of each side with itself, so that value and gradient are 0 at a
            match. Both orders of the potentials are averaged. The value can be slightly below 0
            elsewhere.
        solver: ``"torch"``, or ``"pot"`` for the plans of Python Optimal Transport.

    Returns:
        The cost; 0, with a graph, if there are no points.

    Raises:
        ValueError: If the vocabularies differ, a mask does not fit, or a hyper-parameter is out of
            range.
        TypeError: If the logits are not floating point.

    Cui et al., Sinkhorn Distance Minimization for Knowledge Distillation, 2024.

    >>> student, teacher = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> sinkhorn(student, teacher, epsilon=0.01)
    tensor(0.4621)
    """
    check_transport(epsilon=epsilon, iterations=iterations, gradient=gradient, solver=solver)
    check_points(temperature=temperature, reduction=reduction, p=p)
    check_widths(student.shape[-1], teacher.shape[-1])
    pairs = problems(student.shape, teacher.shape, mask, teacher_mask, geometry=geometry)
    with torch.autocast(student.device.type, enabled=False):
        q, r = map(_flat, (student, teacher))
        if not pairs:  # 0 with a graph
            return widen(q[:0]).sum() + widen(r[:0]).sum().to(q.device)
        rows = [(one.index, other.index) for one, other in pairs]
        distances = partial(problem_distances, temperature=temperature, p=p)
        student_costs = teacher_costs = None
        if debiased:
            student_costs, teacher_costs = (
                [own_distances(cost) for cost in distances(x, x.detach(), [(i, i) for i in own])]
                for x, own in zip((q, r), zip(*rows, strict=True), strict=True)
            )
        values = sinkhorn_values(
            distances(q, r, rows),
            student_costs,
            teacher_costs,
            epsilon=epsilon,
            relative_epsilon=relative_epsilon,
            iterations=iterations,
            gradient=gradient,
            solver=solver,
        )
    if reduction == "mean":
        return values.mean()
    return (values * numbers_like([one.count for one, _ in pairs], values)).sum()


def _flat(logits: Tensor) -> Tensor:
    # return a matrix as it is: the gradient of a view would be copied
    if logits.dim() == 2:
        return logits
    return logits.reshape(prod(logits.shape[:-1]), logits.shape[-1])


def sinkhorn_values(
    costs: Sequence[Tensor],
    student_costs: Sequence[Tensor] | None = None,
    teacher_costs: Sequence[Tensor] | None = None,
    *,
    epsilon: float,
    relative_epsilon: bool = False,
    iterations: int,
    gradient: str,
    solver: str,
) -> Tensor:
    """Value of each problem, G matrices (n, m) -> (G,).

    Args:
        costs: Costs from student to teacher.
        student_costs: Costs from the student to itself, (n, n); None for no debiasing.
        teacher_costs: Costs from the teacher to itself, (m, m); None for no debiasing.
        epsilon: See `sinkhorn`, as all that follow.
        relative_epsilon: See `sinkhorn`.
        iterations: See `sinkhorn`.
        gradient: See `sinkhorn`.
        solver: See `sinkhorn`.
    """
    scale: float | Tensor = epsilon
    if relative_epsilon:
        means = torch.stack([cost.detach().mean() for cost in costs])
        scale = epsilon * torch.where(means > 0, means, 1.0)
    options = {"iterations": iterations, "gradient": gradient, "solver": solver}
    if student_costs is None or teacher_costs is None:
        return transport_costs(costs, epsilon=scale, **options)
    kinds = (costs, [cost.T for cost in costs], student_costs, teacher_costs)
    if isinstance(scale, Tensor):
        scale = scale.repeat(len(kinds))
    stacked = transport_costs([cost for kind in kinds for cost in kind], epsilon=scale, **options)
    forward, backward, student, teacher = stacked.view(len(kinds), -1)
    return (forward + backward - student - teacher) / 2
