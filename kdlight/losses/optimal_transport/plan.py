"""Transport plans by Sinkhorn's iterations in log space, differentiable or for inspection."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from kdlight.checks import check_choice, check_positive
from kdlight.losses.optimal_transport.distances import pair_distances
from kdlight.losses.optimal_transport.points import check_points, check_widths
from kdlight.losses.optimal_transport.scaling import can_scale, scaling_sinkhorn

GRADIENTS = ("unrolled", "implicit", "detached")
SOLVERS = ("torch", "pot")


def check_transport(
    *,
    epsilon: float = 0.1,
    iterations: int = 20,
    gradient: str = "unrolled",
    solver: str = "torch",
) -> None:
    """Raise an error for hyper-parameters of transport plans and costs that are out of range.

    Raises:
        ValueError: If one is; the message names it and what it may be.
    """
    check_positive("epsilon", epsilon)
    if not (isinstance(iterations, int) and iterations >= 1):
        raise ValueError(f"iterations must be an integer of at least 1, got {iterations}")
    check_choice("gradient", gradient, GRADIENTS)
    check_choice("solver", solver, SOLVERS)


def log_sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor, *, iterations: int) -> Tensor:
    r"""Compute plans of mass 1 by a fixed number of iterations, (G, n, m) -> (G, n, m).

    .. math:: f_i = \log a_i - \operatorname{LSE}_j (K_{ij} + g_j), \qquad
              g_j = \log b_j - \operatorname{LSE}_i (K_{ij} + f_i), \qquad g^0 = 0

    Marginals are uniform over the points. Padding has mass 0 from the start, so that the first sum
    does not include it either. The backward pass recomputes the plan of each iteration from its
    potentials: it takes the memory of one plan, and of two vectors per iteration.

    Args:
        kernel: The negative cost, divided by epsilon.
        rows: True at rows that are points, (G, n).
        columns: True at columns that are points, (G, m).
        iterations: Updates of both potentials, f first.
    """
    return _Unrolled.apply(kernel, rows, columns, iterations)


class _Unrolled(Function):
    @staticmethod
    def forward(ctx: Any, kernel: Tensor, rows: Tensor, columns: Tensor, iterations: int) -> Tensor:
        a, b = _masses(rows, kernel.dtype).unsqueeze(2), _masses(columns, kernel.dtype).unsqueeze(1)
        log_a, log_b = a.log(), b.log()
        g = torch.where(b > 0, 0.0, -math.inf).to(kernel)
        potentials, buffer = [g], torch.empty_like(kernel)
        for _ in range(iterations):
            f = log_a - _log_sum_exp(torch.add(kernel, g, out=buffer), 2)
            g = log_b - _log_sum_exp(torch.add(kernel, f, out=buffer), 1)
            potentials += [f, g]
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(kernel, a, b, *potentials)
        return torch.add(kernel, f, out=buffer).add_(g).exp_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernel, a, b, *potentials = ctx.saved_tensors
        a, b = (torch.where(mass > 0, mass, 1.0) for mass in (a, b))
        f, g = potentials[-2:]
        total = (kernel + f).add_(g).exp_().mul_(grad)
        grad_f, grad_g = total.sum(2, keepdim=True), total.sum(1, keepdim=True)
        buffer = torch.empty_like(kernel)
        for i in range(len(potentials) - 2, 0, -2):
            previous_g, f, g = potentials[i - 1 : i + 2]
            # the gradient of each logsumexp is its plan, with columns or rows scaled to mass 1
            part = torch.add(kernel, f, out=buffer).add_(g).exp_().mul_(grad_g / b)
            total -= part
            grad_f = grad_f - part.sum(2, keepdim=True)
            part = torch.add(kernel, f, out=buffer).add_(previous_g).exp_().mul_(grad_f / a)
            total -= part
            grad_f, grad_g = 0.0, -part.sum(1, keepdim=True)
        return total, None, None, None


def _log_sum_exp(x: Tensor, dim: int) -> Tensor:
    # in place, and faster on few points than torch.logsumexp; a sum always has a finite entry
    top = x.amax(dim, keepdim=True)
    return x.sub_(top).exp_().sum(dim, keepdim=True).log_().add_(top)


def _masses(points: Tensor, dtype: torch.dtype) -> Tensor:
    return points.to(dtype) / points.sum(-1, keepdim=True)


def pot_sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor, *, iterations: int) -> Tensor:
    """Compute the plans of `log_sinkhorn` with Python Optimal Transport, (G, n, m) -> (G, n, m).

    Raises:
        ImportError: If POT is not installed.
    """
    try:
        from ot.batch import solve_batch
    except ImportError as error:
        raise ImportError("solver='pot' needs POT: pip install 'pot>=0.9.7'") from error
    plans = []
    for one, n, m in zip(kernel, rows.sum(-1).tolist(), columns.sum(-1).tolist(), strict=True):
        solved: Any = solve_batch(
            -one[None, :n, :m],
            reg=1.0,
            max_iter=iterations,
            tol=0.0,
            method="log_sinkhorn",  # "sinkhorn" creates its potentials on the CPU
            grad="autodiff",
        )
        plans.append(pad(solved.plan[0], (0, kernel.shape[2] - m, 0, kernel.shape[1] - n)))
    return torch.stack(plans)


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
    r"""Transport plan from the student's to the teacher's predictions, (n, V), (m, V) -> (n, m).

    .. math:: P_{ij} = e^{f_i + g_j - C_{ij} / \varepsilon}, \qquad
              \sum_{ij} P_{ij} = 1, \quad \sum_i P_{ij} = 1 / m, \quad \sum_j P_{ij} \approx 1 / n

    Choose it to inspect what `kdlight.losses.sinkhorn` pairs: a small epsilon gives each prediction
    one partner, a large one spreads each over all. Column sums are exact; row sums approach 1 / n
    with more iterations. The plan has no gradient.

    Args:
        student: Logits of q, one point per row.
        teacher: Logits of p; the number of rows may differ.
        epsilon: See `kdlight.losses.sinkhorn`, as all that follow.
        iterations: Updates of both potentials.
        temperature: Divides both logits.
        p: 1 for the sum of absolute differences, 2 for the Euclidean norm.
        relative_epsilon: Multiply epsilon by the mean cost.

    Raises:
        ValueError: If the logits are not two non-empty matrices of one vocabulary, or a
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
                f" {tuple(logits.shape)}; select the valid positions: logits[mask]"
            )
    check_widths(student.shape[-1], teacher.shape[-1])
    with torch.autocast(student.device.type, enabled=False):
        cost = pair_distances(student, teacher, temperature=temperature, p=p)
        mean = cost.mean()
        scale = epsilon * mean if relative_epsilon and mean > 0 else epsilon
        rows, columns = (cost.new_ones(1, size, dtype=torch.bool) for size in cost.shape)
        kernel = cost[None] / -scale
        if can_scale(kernel):
            plan = scaling_sinkhorn(kernel, rows, columns, iterations=iterations).plan
            return plan[0].to(cost)
        return log_sinkhorn(kernel, rows, columns, iterations=iterations)[0]
