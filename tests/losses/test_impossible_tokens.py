"""Where the teacher alone forbids a token, mode-seeking losses are infinite, their slopes finite.

The rule stands in the docstring of `kdlight.losses`. Which losses are finite there, and that all
gradients are, is tested in test_loss_edges.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.balanced import balance, confidence_gap
from tests.losses.test_loss_edges import all_close, evaluate, is_infinite, logits, put
from tests.support import reference
from tests.support.reference import CASES, Row

FORBIDDEN = (0, 3)
MODE_SEEKING = [case for case in CASES if is_infinite(*case, side="teacher")]


def rows(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> tuple[Row, Row, Row]:
    """Probabilities q and p of one position, and those p on which both agree where p alone is 0."""
    q, p = reference.pair(student, teacher, temperature)
    agreed = [b.detach() if a == 0 < b else a for a, b in zip(p, q, strict=True)]
    return q, p, agreed


def reverse(q: Row, agreed: Row) -> Tensor:
    return reference.kl_of(q, agreed)


def weighted(student: Tensor, teacher: Tensor, forward: Any, backward: Any, t: float) -> Tensor:
    q, p, agreed = rows(student, teacher, t)
    return forward * reference.kl_of(p, q) + backward * reverse(q, agreed)


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, **_: Any) -> Tensor:
    return weighted(student, teacher, 0.0, 1.0, temperature)


def symmetric_kl(
    student: Tensor, teacher: Tensor, *, forward_weight: float = 0.5, temperature: float = 1.0
) -> Tensor:
    return weighted(student, teacher, forward_weight, 1 - forward_weight, temperature)


def adaptive_kl(
    student: Tensor, teacher: Tensor, *, head_mass: float = 0.5, temperature: float = 1.0
) -> Tensor:
    q, p, _ = rows(student, teacher, temperature)
    order = sorted(range(len(p)), key=lambda v: (-p[v].item(), v))
    head = [
        v for i, v in enumerate(order) if i == 0 or sum(p[u] for u in order[: i + 1]) <= head_mass
    ]
    gaps = [abs(a.item() - b.item()) for a, b in zip(p, q, strict=True)]
    share = sum(gaps[v] for v in head) / sum(gaps)
    return weighted(student, teacher, share, 1 - share, temperature)


def balanced_kl(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, **options: Any
) -> Tensor:
    at = options.pop("entropy_temperature", None) or temperature
    confidence = options.pop("confidence", "entropy")
    moves = not options.pop("detach_weights", True)
    gap = confidence_gap(student, teacher, temperature=at, confidence=confidence)
    forward, backward = balance(gap, **options)
    # the weight of the infinite term would have an infinite slope
    forward = forward if moves else forward.detach()
    return weighted(student, teacher, forward, backward.detach(), temperature)


def todi(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    q, p, agreed = rows(student, teacher, temperature)
    terms = []
    for a, b, c in zip(p, q, agreed, strict=True):
        share = (a / (a + b)).detach()
        terms.append((1 - share) * b * (b / c).log())
        if a > 0:
            terms.append(share * a * (a / b).log())
    return reference.total(terms)


def alpha_beta(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, **powers: Any
) -> Tensor:
    if powers.get("alpha", 0.2) == -powers.get("beta", 0.7) != 0:
        # the term is infinite, but its slope is not: that of any small probability
        teacher = teacher.masked_fill(teacher == -math.inf, -600.0)
        return reference.alpha_beta(student, teacher, temperature=temperature, **powers)
    q, _, agreed = rows(student, teacher, temperature)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "pair", lambda *_: (q, agreed))
        return reference.alpha_beta(student, teacher, temperature=temperature, **powers)


WITHOUT_INFINITE_LOGS: dict[str, Callable[..., Tensor]] = {
    "reverse_kl": reverse_kl,
    "symmetric_kl": symmetric_kl,
    "jensen_shannon": reverse_kl,
    "skew_reverse_kl": reverse_kl,
    "adaptive_kl": adaptive_kl,
    "balanced_kl": balanced_kl,
    "todi": todi,
    "alpha_beta": alpha_beta,
}


@pytest.mark.parametrize(("name", "hyper"), MODE_SEEKING, ids=reference.ids(MODE_SEEKING))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min])
def test_such_a_token_counts_in_the_gradient_as_if_both_agreed_on_it(
    name: str, hyper: dict[str, Any], dtype: torch.dtype, lowest: float
) -> None:
    student, teacher = logits(dtype)
    teacher = put(teacher, lowest, *FORBIDDEN)
    values, slope, _ = evaluate(name, student, teacher, **hyper)
    assert (values == math.inf).all()
    leaf = student.double().requires_grad_()
    expected = WITHOUT_INFINITE_LOGS[name]
    forbidden = put(teacher.double(), -math.inf, *FORBIDDEN)
    total = sum(expected(*row, **hyper) for row in zip(leaf, forbidden, strict=True))
    (exact,) = torch.autograd.grad(total, leaf)  # type: ignore[arg-type]
    all_close([slope.double()], [exact], 1e-10 if dtype == torch.float64 else 1e-5)
    assert slope.abs().sum() > 0.1


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("symmetric_kl", {"forward_weight": 0.0}),
        ("jensen_shannon", {"beta": 1.0}),
        ("skew_reverse_kl", {"skew": 0.0}),
        ("alpha_beta", {"alpha": 0.0, "beta": 1.0}),
    ],
)
def test_what_equals_reverse_kl_equals_it_there(name: str, hyper: dict[str, Any]) -> None:
    student, teacher = logits()
    teacher = put(teacher, -math.inf, *FORBIDDEN)
    all_close(
        evaluate(name, student, teacher, **hyper)[:2],
        evaluate("reverse_kl", student, teacher)[:2],
        1e-12,
    )


def masked_out(student: Tensor, teacher: Tensor) -> Tensor:
    """Reverse KL whose infinite terms count 0, as M1 computes it."""
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    finite = log_p > -math.inf
    return (log_q.exp() * (log_q - log_p.masked_fill(~finite, 0.0)) * finite).sum(-1)


def test_mass_on_an_impossible_token_is_not_rewarded() -> None:
    """Terms that are left out of the value, too, are: the minimum of x log x is at x = 1/e."""
    at_start, teacher = (each[:1] for each in logits())
    teacher = put(teacher, -math.inf, *FORBIDDEN)
    start = at_start.softmax(-1)[0, list(FORBIDDEN)].sum()
    ends = []
    for loss in (losses.reverse_kl, masked_out):
        student = at_start.clone().requires_grad_()
        for _ in range(300):
            (slope,) = torch.autograd.grad(loss(student, teacher).sum(), student)
            student = (student - 2.0 * slope).detach().requires_grad_()
        ends.append(student.softmax(-1).detach()[0])
    ours, theirs = (end[list(FORBIDDEN)].sum() for end in ends)
    assert ours < 0.2 * start
    assert theirs == pytest.approx(1 - 1 / math.e, abs=0.01)
    others = put(ends[0].log(), -math.inf, *FORBIDDEN).softmax(-1)
    assert (others - teacher.softmax(-1)[0]).abs().max() < 0.02


def test_the_gradient_differs_from_that_of_masked_terms_by_that_of_their_mass() -> None:
    student, teacher = logits()
    teacher = put(teacher, -math.inf, *FORBIDDEN)
    leaf = student.requires_grad_()
    mass = leaf.softmax(-1)[:, list(FORBIDDEN)].sum()
    (expected,) = torch.autograd.grad(masked_out(leaf, teacher).sum() + mass, leaf)
    _, slope, _ = evaluate("reverse_kl", student, teacher)
    all_close([slope], [expected], 1e-12)
