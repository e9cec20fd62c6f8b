"""Top-k teachers: f-divergences from them equal those over k + 1 outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import Projected, losses
from kdlight.objectives import LossInputs, Objective, TopKForwardKL, build_objective
from kdlight.reduce import Chunking
from kdlight.sources import TopK
from tests.support.reference import REFERENCE

N, V, K = 6, 11, 3

EXACT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("forward_kl", {}),
    ("reverse_kl", {}),
    ("symmetric_kl", {"forward_weight": 0.3}),
    ("jensen_shannon", {"beta": 0.2}),
    ("total_variation", {}),
    ("skew_forward_kl", {"skew": 0.4}),
    ("skew_reverse_kl", {"skew": 0.4}),
    ("taid", {"t": 0.6}),
)


@pytest.fixture
def student(generator: torch.Generator) -> Tensor:
    logits = 2 * torch.randn(N, V, dtype=torch.float64, generator=generator)
    return logits.requires_grad_()


@pytest.fixture
def teacher(generator: torch.Generator) -> Tensor:
    return 2 * torch.randn(N, V, dtype=torch.float64, generator=generator)


def outcomes(student: Tensor, source: TopK) -> tuple[Tensor, Tensor]:
    """Return logits ``(N, k + 1)`` of the kept tokens and the tail, of student and teacher."""
    rows = []
    for z, ids in zip(student, source.ids, strict=True):
        others = [v for v in range(V) if v not in ids.tolist()]
        rows.append(torch.cat([z[ids], z[others].logsumexp(0, keepdim=True)]))
    rest = (1 - source.log_probs.exp().sum(-1, keepdim=True)).log()
    return torch.stack(rows), torch.cat([source.log_probs, rest], -1)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "hyper"), EXACT, ids=lambda value: str(value))
def test_value_and_gradient_are_those_over_k_plus_one_outcomes(
    name: str, hyper: dict[str, Any], student: Tensor, teacher: Tensor
) -> None:
    source = TopK.of(teacher, K)
    value = getattr(losses, name)(student, source.given_student(student), **hyper).sum()
    pairs = zip(*outcomes(student, source), strict=True)
    expected = torch.stack([REFERENCE[name](z, t, **hyper) for z, t in pairs]).sum()
    close(value, expected)
    close(*(torch.autograd.grad(each, student)[0] for each in (value, expected)))


@pytest.mark.parametrize(("name", "hyper"), EXACT[:-1], ids=lambda value: str(value))
def test_the_tail_is_one_outcome_at_a_temperature_too(
    name: str, hyper: dict[str, Any], student: Tensor, teacher: Tensor
) -> None:
    source = TopK.of(teacher, K)
    logits = source.given_student(student)
    value = getattr(losses, name)(student, logits, temperature=2.5, **hyper).sum()
    tempered = (logits / 2.5).log_softmax(-1)
    same = TopK(source.ids, tempered.gather(-1, source.ids), V)
    pairs = zip(*outcomes(student / 2.5, same), strict=True)
    expected = torch.stack([REFERENCE[name](z, t, **hyper) for z, t in pairs]).sum()
    close(value, expected)
    close(*(torch.autograd.grad(each, student)[0] for each in (value, expected)))


@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "taid", "decoupled_kl", "adaptive_kl"]
)
def test_k_equal_to_v_is_the_live_teacher(name: str, student: Tensor, teacher: Tensor) -> None:
    objective = build_objective(name)
    labels = torch.arange(N)
    live = objective(LossInputs(student, teacher, labels)).total
    for tail in ("bucket", "renormalise"):
        kept = objective(LossInputs(student, TopK.of(teacher, V, tail=tail), labels)).total
        close(kept, live)
        close(*(torch.autograd.grad(each, student, retain_graph=True)[0] for each in (kept, live)))


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
@pytest.mark.parametrize("k", [1, K, V])
def test_topk_forward_kl_equals_forward_kl_to_the_source(
    tail: Any, k: int, student: Tensor, teacher: Tensor
) -> None:
    source = TopK.of(teacher, k, tail=tail)
    on_k = losses.topk_forward_kl(student, source.ids, source.log_probs, tail=tail)
    on_all = losses.forward_kl(student, source.given_student(student))
    if (
        tail == "renormalise"
    ):  # to the source, the student's mass outside of the k tokens counts, too
        on_all = on_all + student.softmax(-1).gather(-1, source.ids).sum(-1).log()
    close(on_k, on_all)
    close(*(torch.autograd.grad(each.sum(), student)[0] for each in (on_k, on_all)))


def test_topk_forward_kl_grows_with_k_up_to_forward_kl(student: Tensor, teacher: Tensor) -> None:
    values = []
    for k in range(1, V + 1):
        source = TopK.of(teacher, k)
        values.append(losses.topk_forward_kl(student, source.ids, source.log_probs))
    assert (torch.stack(values).diff(dim=0) >= -1e-12).all()
    close(values[-1], losses.forward_kl(student, teacher))


def test_a_known_tail_mass_is_used(student: Tensor, teacher: Tensor) -> None:
    exact = TopK.of(teacher, K)
    rounded = exact.log_probs + 0.01  # as in a cache with few bits
    known = TopK(exact.ids, rounded, V, log_tail=exact.log_tail).given_student(student)
    outside = known.exp().scatter(-1, exact.ids, 0).sum(-1)
    assert exact.log_tail is not None
    assert ((outside / exact.log_tail.exp() - 1).abs() < 0.011).all()
    close(known.exp().sum(-1), torch.ones(N, dtype=torch.float64))


def test_rows_may_hold_fewer_than_k(student: Tensor, teacher: Tensor) -> None:
    three = TopK.of(teacher, 3)
    log_probs = three.log_probs.clone()
    log_probs[:, 2] = -torch.inf
    ids = three.ids.clone()
    ids[:, 2] = 0  # any id
    two = TopK.of(teacher, 2)
    close(
        TopK(ids, log_probs, V).given_student(student),
        TopK(two.ids, two.log_probs, V).given_student(student),
    )
    close(
        losses.topk_forward_kl(student, ids, log_probs),
        losses.topk_forward_kl(student, two.ids, two.log_probs),
    )


def test_columns_outside_the_vocabulary_stay_outside(student: Tensor, teacher: Tensor) -> None:
    outside = torch.full((N, 2), -torch.inf, dtype=torch.float64)
    wide = torch.cat([student, outside], -1)
    source = TopK.of(torch.cat([teacher, outside], -1), K)
    close(source.given_student(wide)[:, :V], TopK.of(teacher, K).given_student(student))
    assert (source.given_student(wide)[:, V:] == -torch.inf).all()
    all_tokens = TopK.of(torch.cat([teacher, outside], -1), V)
    value = losses.reverse_kl(wide, all_tokens.given_student(wide))
    close(value, losses.reverse_kl(student, teacher))


@pytest.mark.parametrize("name", ["forward_kl", "jensen_shannon", "topk_forward_kl"])
def test_chunks_give_the_same(name: str, teacher: Tensor, generator: torch.Generator) -> None:
    hidden = torch.randn(N, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    head = torch.nn.Linear(4, V).double()
    mask = torch.tensor([True, False, True, True, True, False])
    results = []
    for chunked in (False, Chunking(tokens=3, block=2)):
        inputs = LossInputs(
            Projected(hidden, head), TopK.of(teacher, K), None, mask, chunked=chunked
        )
        total = build_objective(name)(inputs).total
        results.append((total, torch.autograd.grad(total, hidden)[0]))
    for at_once, chunked in zip(*results, strict=True):
        close(chunked, at_once)


@pytest.mark.parametrize(
    "hyper",
    [
        {"k": 2},
        {"k": 2, "tail": "renormalise", "temperature": 1.7},
        {"k": 4, "tail": "renormalise", "temperature": 0.5, "recalibrate": "probs"},
    ],
    ids=str,
)
def test_first_on_a_cache_equals_first_on_the_live_teacher(
    hyper: dict[str, Any], student: Tensor, teacher: Tensor
) -> None:
    objective = TopKForwardKL(**hyper)
    with torch.no_grad():  # a token of the tail that is likely for the student is not among the k
        student.scatter_(-1, teacher.argmin(-1, keepdim=True), 9.0)
    live, cached = (
        objective(LossInputs(student, each)).total for each in (teacher, TopK.of(teacher, 5))
    )
    close(cached, live)
    close(*(torch.autograd.grad(each, student)[0] for each in (cached, live)))


@pytest.mark.parametrize("tail", ["bucket", "renormalise"])
def test_the_temperature_of_the_source(tail: Any, student: Tensor, teacher: Tensor) -> None:
    complete = replace(TopK.of(teacher, V, tail=tail), temperature=3.0)
    close(complete.given_student(student), (teacher / 3).log_softmax(-1))
    if tail == "bucket":  # the tail has the shape of the student's, and the mass of the teacher's
        own = TopK.of(student.detach(), K)
        again = TopK(own.ids, own.log_probs, V, temperature=3.0).given_student(student).exp()
        kept = (student / 3).softmax(-1).gather(-1, own.ids)
        close(again.gather(-1, own.ids), kept.detach())


def test_logits_without_a_student_have_a_uniform_tail() -> None:
    source = TopK(torch.tensor([[[2]]]), torch.tensor([[[0.4]]]).log(), 4)
    torch.testing.assert_close(source.logits().exp(), torch.tensor([[[0.2, 0.2, 0.4, 0.2]]]))
    assert source.shape == (1, 1, 4)
    assert source.select(slice(0, 1)).shape == (1, 4)


INVALID: list[tuple[Callable[[], Any], str]] = [
    (lambda: TopK(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 2), 4), "one shape"),
    (lambda: TopK(*_one(), 4, tail="cut"), "tail must be one of"),  # type: ignore[arg-type]
    (lambda: TopK(*_one(), 4, temperature=0.0), "temperature must be above 0"),
    (lambda: TopKForwardKL(k=0), "k must be at least 1, got 0"),
    (lambda: TopKForwardKL(temperature=math.nan), "temperature must be above 0"),
    (lambda: TopKForwardKL(recalibrate="p"), "recalibrate must be"),  # type: ignore[arg-type]
    (lambda: TopKForwardKL(recalibrate="probs"), "needs tail='renormalise'"),
    (lambda: losses.topk_forward_kl(torch.zeros(2, 4), *_one()), r"must be \(..., V\)"),
]


def _one() -> tuple[Tensor, Tensor]:
    return torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1)


@pytest.mark.parametrize(("make", "message"), INVALID)
def test_invalid_arguments_raise(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
