"""The plan behind the Sinkhorn distance, to be looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.distances import pair_distances
from kdlight.losses.log_sinkhorn import log_sinkhorn
from kdlight.losses.sinkhorn import check_points, check_widths
from kdlight.losses.transport import check_transport


@torch.no_grad()
def sinkhorn_plan(
    student: Tensor,
    teacher: Tensor,
    *,
    epsilon: float = 0.1,
    iterations: int = 20,
    temperature: float = 2.0,
    p: int = 1,
    relative_epsilon: bool = False,
) -> Tensor:
    r"""How much of each student's prediction goes to which teacher's, (n, V), (m, V) -> (n, m).

    .. math:: P_{ij} = e^{f_i + g_j - C_{ij} / \varepsilon}, \qquad
              \sum_{ij} P_{ij} = 1, \quad \sum_i P_{ij} = 1 / m, \quad \sum_j P_{ij} \approx 1 / n

    Choose it to see what `sinkhorn` pairs: a small epsilon gives each prediction one partner, a
    large one spreads each over all. The sums over columns are exact; those over rows come nearer to
    1 / n with more iterations. The plan has no gradient.

    Args:
        student: Logits of q, a row a point.
        teacher: Logits of p; the number of rows may differ.
        epsilon: See `sinkhorn`, as all that follows.
        iterations: Turns of both potentials.
        temperature: Divides both logits.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.
        relative_epsilon: Multiply epsilon by the mean cost.

    Raises:
        ValueError: If the logits are no two matrices of one vocabulary with a point each, or a
            hyper-parameter is out of range.
        TypeError: If the logits are not floating point.

    Cui et al., Sinkhorn Distance Minimization for Knowledge Distillation, 2024.

    >>> student, teacher = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> sinkhorn_plan(student, teacher)
    tensor([[0.2500, 0.2500],
            [0.2500, 0.2500]])
    """
    check_transport(epsilon=epsilon, iterations=iterations)
    check_points(temperature=temperature, reduction="mean", p=p)
    for name, logits in (("student", student), ("teacher", teacher)):
        if logits.dim() != 2 or not len(logits):
            raise ValueError(
                f"{name} must hold logits (n, V) of at least one prediction, got shape"
                f" {tuple(logits.shape)}; pass the positions that count: logits[mask]"
            )
    check_widths(student.shape[-1], teacher.shape[-1])
    with torch.autocast(student.device.type, enabled=False):
        cost = pair_distances(student, teacher, temperature=temperature, p=p)
        mean = cost.mean()
        scale = epsilon * mean if relative_epsilon and mean > 0 else epsilon
        rows, columns = (cost.new_ones(1, size, dtype=torch.bool) for size in cost.shape)
        return log_sinkhorn(-cost[None] / scale, rows, columns, iterations=iterations)[0]
