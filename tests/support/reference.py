"""Slow references of all losses, from their formulas: float64, row by row, in loops.

Nothing is imported from kdlight. Gradients come from autograd, over the tokens that both sides
allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Row = list[Tensor]  # one scalar per token


def softmax(logits: Tensor, temperature: float = 1.0) -> Row:
    """Probabilities of one row, (V,) -> V scalars."""
    scaled = [z / temperature for z in logits.double()]
    top = max(z.item() for z in scaled)
    powers = [torch.exp(z - top) for z in scaled]
    return [power / total(powers) for power in powers]


def total(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum() if terms else torch.zeros((), dtype=torch.float64)


def kl_of(p: Row, q: Row) -> Tensor:
    return total([a * (a.log() - b.log()) for a, b in zip(p, q, strict=True) if a.item() > 0])


def pair(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> tuple[Row, Row]:
    """Probabilities q and p, in this order."""
    return softmax(student, temperature), softmax(teacher, temperature)


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    q, p = pair(student, teacher, temperature)
    return kl_of(p, q)


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    q, p = pair(student, teacher, temperature)
    return kl_of(q, p)


def symmetric_kl(
    student: Tensor, teacher: Tensor, *, forward_weight: float = 0.5, temperature: float = 1.0
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    return forward_weight * kl_of(p, q) + (1 - forward_weight) * kl_of(q, p)


def jensen_shannon(
    student: Tensor, teacher: Tensor, *, beta: float = 0.5, temperature: float = 1.0
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    if beta in (0, 1):
        return kl_of(q, p) if beta else kl_of(p, q)
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * kl_of(p, m) + (1 - beta) * kl_of(q, m)


def total_variation(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    q, p = pair(student, teacher, temperature)
    return total([(a - b).abs() for a, b in zip(p, q, strict=True)]) / 2


def skew_forward_kl(
    student: Tensor, teacher: Tensor, *, skew: float = 0.1, temperature: float = 1.0
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    return kl_of(p, [skew * a + (1 - skew) * b for a, b in zip(p, q, strict=True)])


def skew_reverse_kl(
    student: Tensor, teacher: Tensor, *, skew: float = 0.1, temperature: float = 1.0
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    return kl_of(q, [(1 - skew) * a + skew * b for a, b in zip(p, q, strict=True)])


def adaptive_kl(
    student: Tensor, teacher: Tensor, *, head_mass: float = 0.5, temperature: float = 1.0
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    mass, head = 0.0, set()
    for rank, v in enumerate(sorted(range(len(p)), key=lambda v: (-p[v].item(), v))):
        mass += p[v].item()
        if rank == 0 or mass <= head_mass:
            head.add(v)
    gaps = [abs(a.item() - b.item()) for a, b in zip(p, q, strict=True)]
    share = sum(gaps[v] for v in head) / sum(gaps)
    return share * kl_of(p, q) + (1 - share) * kl_of(q, p)


def todi(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    q, p = pair(student, teacher, temperature)
    terms = []
    for a, b in zip(p, q, strict=True):
        weight = 1 / (1 + math.exp(math.log(b.item()) - math.log(a.item())))
        terms.append(weight * a * (a / b).log() + (1 - weight) * b * (b / a).log())
    return total(terms)


def alpha_beta(
    student: Tensor,
    teacher: Tensor,
    *,
    alpha: float = 0.2,
    beta: float = 0.7,
    temperature: float = 1.0,
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    s, terms = alpha + beta, []
    for x, y in zip(p, q, strict=True):
        if alpha == beta == 0:
            term = (x.log() - y.log()) ** 2 / 2
        elif beta == 0:
            term = (x**alpha * (x**alpha / y**alpha).log() - x**alpha + y**alpha) / alpha**2
        elif alpha == 0:
            term = (y**beta * (y**beta / x**beta).log() - y**beta + x**beta) / beta**2
        elif s == 0:
            term = ((y**alpha / x**alpha).log() + x**alpha / y**alpha - 1) / alpha**2
        else:
            term = alpha / s * x**s + beta / s * y**s - x**alpha * y**beta
            term = term / (alpha * beta)
        terms.append(term)
    return total(terms)


def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    label: int,
    *,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
    temperature: float = 1.0,
) -> Tensor:
    if label == -100:
        return 0.0 * (student.double().sum() + teacher.double().sum())
    q, p = pair(student, teacher, temperature)
    others = [v for v in range(len(p)) if v != label]
    rest_p, rest_q = total([p[v] for v in others]), total([q[v] for v in others])
    target = kl_of([p[label], rest_p], [q[label], rest_q])
    among = kl_of([p[v] / rest_p for v in others], [q[v] / rest_q for v in others])
    return target_weight * target + non_target_weight * among


def taid(student: Tensor, teacher: Tensor, *, t: float) -> Tensor:
    target = softmax((1 - t) * student.detach().double() + t * teacher.double())
    return kl_of(target, softmax(student))


def balanced_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    high: float = 2.0,
    low: float = 1.0,
    temperature: float = 1.0,
    weighting: str = "hard",
    kappa: float = 4.0,
    normalise: bool = False,
    detach_weights: bool = True,
    entropy_temperature: float | None = None,
    confidence: str = "entropy",
    tie_tol: float = 0.0,
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    rows = pair(student, teacher, entropy_temperature or temperature)
    if confidence == "entropy":
        gap = total([a * a.log() for a in rows[0] if a > 0]) - total(
            [a * a.log() for a in rows[1] if a > 0]
        )
    else:
        gap = torch.stack(rows[0]).max() - torch.stack(rows[1]).max()
    if detach_weights:
        gap = gap.detach()
    if weighting == "soft":
        forward = low + (high - low) / (1 + (-kappa * gap).exp())
        reverse = low + (high - low) / (1 + (kappa * gap).exp())
    else:
        forward = torch.tensor(high if gap > tie_tol else low, dtype=torch.float64)
        reverse = torch.tensor(high if -gap > tie_tol else low, dtype=torch.float64)
    if normalise:
        forward, reverse = forward / (forward + reverse), reverse / (forward + reverse)
    return forward * kl_of(p, q) + reverse * kl_of(q, p)


def topk_forward_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    k: int = 5,
    tail: str = "bucket",
    temperature: float = 1.0,
    recalibrate: str = "logits",
    student_temperature: float = 1.0,
) -> Tensor:
    q = softmax(student, student_temperature)
    p = softmax(teacher, temperature if recalibrate == "logits" else 1.0)
    kept = sorted(range(len(p)), key=lambda v: -p[v].item())[:k]
    if tail == "bucket":
        others = [v for v in range(len(p)) if v not in kept]
        rest_p, rest_q = total([p[v] for v in others]), total([q[v] for v in others])
        return kl_of([*(p[v] for v in kept), rest_p], [*(q[v] for v in kept), rest_q])
    p, q = [p[v] for v in kept], [q[v] for v in kept]
    if recalibrate == "probs":
        p, q = [(a / temperature).exp() for a in p], [b.exp() for b in q]
    return kl_of([a / total(p) for a in p], [b / total(q) for b in q])


def topk_reverse_kl(
    student: Tensor, teacher: Tensor, *, k: int = 50, temperature: float = 1.0
) -> Tensor:
    q, p = pair(student, teacher, temperature)
    kept = sorted(range(len(q)), key=lambda v: -q[v].item())[:k]
    others = [v for v in range(len(q)) if v not in kept]
    rest_q, rest_p = total([q[v] for v in others]), total([p[v] for v in others])
    return kl_of([*(q[v] for v in kept), rest_q], [*(p[v] for v in kept), rest_p])


def sampled_reverse_kl(
    student: Tensor,
    teacher: Tensor,
    label: int,
    *,
    estimator: str = "k2",
    temperature: float = 1.0,
) -> Tensor:
    if label == -100:
        return 0.0 * (student.double().sum() + teacher.double().sum())
    q, p = pair(student, teacher, temperature)
    log_q, log_r = q[label].log(), (p[label] / q[label]).log()
    value = {"k1": -log_r, "k2": log_r**2 / 2, "k3": log_r.exp() - 1 - log_r}
    if estimator == "score_function":  # the value of one term, the gradient of the other
        return -log_r.detach() - log_r.detach() * (log_q - log_q.detach())
    return value[estimator]


def cross_entropy(student: Tensor, label: int) -> Tensor:
    return 0.0 * student.double().sum() if label == -100 else -softmax(student)[label].log()


def sinkhorn(
    student: Tensor,
    teacher: Tensor,
    *,
    epsilon: float = 0.1,
    iterations: int = 20,
    temperature: float = 2.0,
    p: int = 1,
    relative_epsilon: bool = False,
    debiased: bool = False,
) -> Tensor:
    """Transport cost of two sets of points, (n, V), (m, V) -> (), with a plan of mass 1."""
    points_q, points_p = ([softmax(row, temperature) for row in z] for z in (student, teacher))

    def costs(x: list[Row], y: list[Row]) -> Tensor:
        gaps = [[[(a - b).abs() for a, b in zip(u, v, strict=True)] for v in y] for u in x]
        if p == 1:
            return torch.stack([torch.stack([total(d) for d in row]) for row in gaps])
        squares = [[total([a**2 for a in d]) for d in row] for row in gaps]
        return torch.stack(  # the root has no gradient at 0: use 0
            [torch.stack([s.sqrt() if s.item() > 0 else 0 * s for s in row]) for row in squares]
        )

    cost = costs(points_q, points_p)
    scale = epsilon * (cost.mean().item() or 1.0) if relative_epsilon else epsilon

    def value(cost: Tensor) -> Tensor:
        n, m = cost.shape
        plan = torch.exp(-cost / scale)
        for _ in range(iterations):
            plan = plan / plan.sum(1, keepdim=True) / n
            plan = plan / plan.sum(0, keepdim=True) / m
        return (plan * cost).sum()

    if not debiased:
        return value(cost)
    own = value(costs(points_q, points_q)) + value(costs(points_p, points_p))
    return (value(cost) + value(cost.T) - own) / 2


def uld(student: Tensor, teacher: Tensor) -> Tensor:
    q, p = (sorted(softmax(z), key=lambda x: -x.item()) for z in (student, teacher))
    filled = [[*row, *[torch.zeros(())] * (max(len(q), len(p)) - len(row))] for row in (q, p)]
    return total([(a - b).abs() for a, b in zip(*filled, strict=True)])


def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    gaps = [a - b for a, b in zip(student.double(), teacher.double(), strict=True)]
    return total([gap * gap for gap in gaps]) / len(gaps)


REFERENCE: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        forward_kl,
        reverse_kl,
        symmetric_kl,
        jensen_shannon,
        total_variation,
        skew_forward_kl,
        skew_reverse_kl,
        adaptive_kl,
        todi,
        alpha_beta,
        balanced_kl,
        decoupled_kl,
        taid,
        topk_forward_kl,
        topk_reverse_kl,
        sampled_reverse_kl,
        cross_entropy,
        mean_squared_error,
    )
} | {"bdkd": balanced_kl}

# Every divergence with hyper-parameters for tests; the first ones of a name are the usual ones.
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("forward_kl", {}),
    ("forward_kl", {"temperature": 2.5}),
    ("reverse_kl", {}),
    ("reverse_kl", {"temperature": 0.5}),
    ("symmetric_kl", {}),
    ("symmetric_kl", {"forward_weight": 0.2, "temperature": 2.0}),
    ("symmetric_kl", {"forward_weight": 0.0}),
    ("jensen_shannon", {}),
    ("jensen_shannon", {"beta": 0.1, "temperature": 3.0}),
    ("jensen_shannon", {"beta": 0.9}),
    ("jensen_shannon", {"beta": 0.0}),
    ("jensen_shannon", {"beta": 1.0}),
    ("total_variation", {}),
    ("total_variation", {"temperature": 2.0}),
    ("skew_forward_kl", {}),
    ("skew_forward_kl", {"skew": 0.6, "temperature": 2.0}),
    ("skew_forward_kl", {"skew": 0.0}),
    ("skew_reverse_kl", {}),
    ("skew_reverse_kl", {"skew": 0.6, "temperature": 2.0}),
    ("skew_reverse_kl", {"skew": 0.0}),
    ("adaptive_kl", {}),
    ("adaptive_kl", {"head_mass": 0.9, "temperature": 2.0}),
    ("adaptive_kl", {"head_mass": 0.0}),
    ("todi", {}),
    ("todi", {"temperature": 2.0}),
    ("alpha_beta", {}),
    ("alpha_beta", {"alpha": 1.0, "beta": 1.0, "temperature": 2.0}),
    ("alpha_beta", {"alpha": 1.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 1.0}),
    ("alpha_beta", {"alpha": 0.5, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.5}),
    ("alpha_beta", {"alpha": 0.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 0.5, "beta": -0.5}),
    ("alpha_beta", {"alpha": -0.3, "beta": 0.8}),
    ("alpha_beta", {"alpha": 0.8, "beta": -0.3}),
    ("balanced_kl", {}),
    ("balanced_kl", {"high": 3.0, "temperature": 2.0, "entropy_temperature": 1.0}),
    ("balanced_kl", {"high": 1.0, "low": 0.0}),
    ("balanced_kl", {"confidence": "max_prob", "normalise": True}),
    ("balanced_kl", {"weighting": "soft", "detach_weights": False}),
    ("decoupled_kl", {}),
    ("decoupled_kl", {"target_weight": 0.5, "non_target_weight": 2.0, "temperature": 4.0}),
    ("decoupled_kl", {"non_target_weight": 0.0}),
    ("taid", {"t": 0.4}),
    ("taid", {"t": 0.0}),
    ("taid", {"t": 1.0}),
)
USUAL = {name: hyper_parameters for name, hyper_parameters in reversed(CASES)}
# Their gradient is not the derivative of their value: a weight or a target takes no gradient.
STOPS_A_GRADIENT = {"adaptive_kl", "todi", "taid"}


def ids(cases: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    for name, hyper_parameters in cases:
        yield "-".join([name, *(f"{key}={value}" for key, value in hyper_parameters.items())])


def per_row(name: str, student: Tensor, teacher: Tensor, labels: Tensor, **hyper: Any) -> Tensor:
    """Evaluate the reference on every row, (..., V), (..., V), (...) -> (...)."""
    vocabulary, values = student.shape[-1], []
    for z_s, z_t, y in zip(
        student.reshape(-1, vocabulary),
        teacher.reshape(-1, vocabulary),
        labels.flatten(),
        strict=True,
    ):
        label = [int(y)] if name == "decoupled_kl" else []
        values.append(REFERENCE[name](z_s, z_t, *label, **hyper))
    return torch.stack(values).view(student.shape[:-1])
