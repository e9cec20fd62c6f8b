"""Sinkhorn distance between the predictions of student and teacher as two clouds of points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf, prod

import torch
from torch import Tensor

from kdlight.losses.distances import pair_distances
from kdlight.losses.geometry import Points, problems
from kdlight.losses.log_space import widen
from kdlight.losses.transport import check_transport, transport_costs


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

    Every prediction is a point; each of the student's may be sent to several of the teacher's.
    Choose it for classifiers, whose batches have a geometry that a divergence per sample does not
    see. With the vocabulary of a language model other points are so far away that an epsilon of 0.1
    sends each to its own (twice the total variation): use ``relative_epsilon`` there. It is above 0
    at a match unless ``debiased``.

    Args:
        student: Logits of q.
        teacher: Logits of p; the number of positions may differ.
        mask: True where a position of the student is a point; None keeps all.
        teacher_mask: The same for the teacher; None for ``mask`` where the positions are the same.
        epsilon: Strength of the entropic smoothing.
        iterations: Turns of both potentials, the student's first; part of the loss, as its value at
            few classes is still far from converged.
        temperature: Divides both logits.
        geometry: ``"batch"``, all positions are points of one problem; ``"sequence"``, a problem
            for each sequence; ``"position"``, one for each place of it, across the batch.
        reduction: ``"mean"``, P has mass 1 and problems are averaged; ``"sum"``, P has mass n and
            problems are added, as the authors publish it: it grows with the batch.
        gradient: ``"unrolled"`` through all iterations; ``"implicit"``, exact for a converged plan;
            ``"detached"``, that of a plan held fast, cheap and too short.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.
        relative_epsilon: Multiply epsilon by the mean cost of each problem, which is held fast.
        debiased: Take the cost of either side with itself off, so that a match costs 0, whose slope
            is 0. The order of potentials is averaged. It may fall a little below 0 elsewhere.
        solver: ``"torch"``, or ``"pot"`` for the plans of Python Optimal Transport.

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
    found = problems(student.shape, teacher.shape, mask, teacher_mask, geometry=geometry)
    with torch.autocast(student.device.type, enabled=False):
        q, r = map(_flat, (student, teacher))
        nothing = widen(q[:0]).sum() + widen(r[:0]).sum().to(q.device)  # 0 with a graph
        if not found:
            return nothing
        sides = [(_rows(q, one), _rows(r, other)) for one, other in found]
        measure = partial(pair_distances, temperature=temperature, p=p)
        values = sinkhorn_values(
            [measure(x, y) for x, y in sides],
            [measure(x, x) for x, _ in sides] if debiased else None,
            [measure(y, y) for _, y in sides] if debiased else None,
            epsilon=epsilon,
            relative_epsilon=relative_epsilon,
            iterations=iterations,
            gradient=gradient,
            solver=solver,
        )
    if reduction == "mean":
        return values.mean()
    return (values * torch.tensor([len(x) for x, _ in sides]).to(values)).sum()


def _flat(logits: Tensor) -> Tensor:
    # not even a view where there is nothing to do: its gradient would be copied
    if logits.dim() == 2:
        return logits
    return logits.reshape(prod(logits.shape[:-1]), logits.shape[-1])


def _rows(logits: Tensor, points: Points) -> Tensor:
    return logits if points.index is None else logits[points.index]


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
    """Value of each problem, G matrices (n, m) -> (G,); debiased with the costs of either side.

    Args:
        costs: What it costs from student to teacher.
        student_costs: From the student to itself, (n, n); None for no debiasing.
        teacher_costs: From the teacher to itself, (m, m).
        epsilon: See `sinkhorn`, as the others.
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
    every = transport_costs([cost for kind in kinds for cost in kind], epsilon=scale, **options)
    forth, back, student, teacher = every.view(len(kinds), -1)
    return (forth + back - student - teacher) / 2


def check_points(*, temperature: float, reduction: str, p: int) -> None:
    """Refuse hyper-parameters of the distances and of their sum that are out of range."""
    if not 0 < temperature < inf:
        raise ValueError(f"temperature must be a positive finite number, got {temperature}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")


def check_widths(student: int, teacher: int) -> None:
    """Refuse two vocabularies, whose points have no distance."""
    if student != teacher:
        raise ValueError(
            f"the vocabularies differ: {student} and {teacher} entries; points of different width"
            " have no distance: use losses.uld or losses.multi_level_ot for two tokenizers"
        )
