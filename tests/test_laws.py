"""The laws: what holds for every objective, named in `OBJECTIVES` or not yet written.

A new objective gets them by its line in `OBJECTIVES`. Where a law cannot hold, `EXCEPTIONS` says so
with the reason, and the test then demands that it indeed does not hold.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import Projected
from kdlight.objectives import (
    OBJECTIVES,
    TAID,
    Divergence,
    LearnableTemperature,
    Loss,
    Objective,
    Step,
    build_objective,
)
from tests.reference import REFERENCE

B, T, V = 2, 5, 7

# Hyper-parameters at which the laws are asked for, besides the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "alpha_beta": [{"alpha": 1.0, "beta": 0.0}, {"alpha": 0.0, "beta": 0.0}],
    "bdkd": [
        {"high": 1.0, "low": 3.0},
        {"confidence": "max_prob", "normalise": True},
        {"weighting": "soft"},
        {"weighting": "soft", "detach_weights": False, "entropy_temperature": 2.0},
        {"granularity": "sequence"},
    ],
    "ctkd": [{"strength": 0.0}, {"low": 0.5, "span": 0.0}],
    "dackl": [
        {"thresholds": "fixed", "upper": 0.8, "rule": "quantile"},
        {"gate": "soft", "tail": "renorm"},
    ],
    "decoupled_kl": [{"target_weight": 0.0}],
    "jensen_shannon": [{"beta": 0.0}, {"beta": 0.1}, {"beta": 1.0}],
    "sinkd": [{"cross_entropy": 0.0, "debiased": True}],
    "skew_forward_kl": [{"skew": 0.0}],
    "skew_reverse_kl": [{"skew": 0.0}],
    "symmetric_kl": [{"forward_weight": 0.9}],
    "taid": [{"t": 0.0}, {"t": 1.0}, {"log_cross_entropy": True}],
    "topk_forward_kl": [{"k": 2, "temperature": 2.0}, {"k": 9}, {"k": 2, "tail": "renormalise"}],
}

# Their steps say which sequences are wrong: tests/test_redi_laws.py asks the same of them.
ELSEWHERE = {"dpo", "redi", "simpo", "unlikelihood"}

# (law, objective or one of its settings): why it cannot hold there
EXCEPTIONS = {
    ("zero_at_a_match", "cross_entropy"): "measured against labels: a teacher is not looked at",
    ("gradcheck", "adaptive_kl"): "the shares of head and tail take no gradient",
    ("gradcheck", "adaptive_kl(temperature=2.5)"): "the shares of head and tail take no gradient",
    ("gradcheck", "bdkd(weighting=soft)"): "the weights take no gradient",
    ("value_and_gradient_are_those_of_the_slow_reference", "bdkd(granularity=sequence)"): (
        "the reference goes row by row: tests/test_bdkd.py has one for sequences"
    ),
    ("masking_is_removing", "bdkd(granularity=sequence)"): "what is left is one sequence, not two",
    ("gradcheck", "taid"): "the student's half of the target takes no gradient",
    ("gradcheck", "taid(log_cross_entropy=True)"): "the student's half takes no gradient",
    ("zero_at_a_match", "topk_forward_kl(k=2, temperature=2.0)"): "only the teacher is tempered",
    ("zero_at_a_match", "sinkd"): "labels, and the bias of an entropic plan",
    ("half_precision_is_widened_first", "sinkd"): "the gradients of two terms are rounded each",
    ("half_precision_is_widened_first", "sinkd(cross_entropy=0.0, debiased=True)"): (
        "the gradients of two terms are rounded each"
    ),
    ("value_is_one_finite_number_over_all_positions", "uld"): "it counts sequences",
    ("masking_is_removing", "uld"): "what is left is one sequence, not two",
    ("masking_is_removing", "multi_level_ot"): "what is left is one sequence, not two",
    ("zero_at_a_match", "multi_level_ot"): "one of its terms is a cross-entropy",
    **{
        ("value_and_gradient_are_those_of_the_slow_reference", key): (
            f"the reference goes row by row: tests/{own} has one for sets of them"
        )
        for key, own in {
            "sinkd": "test_sinkhorn.py",
            "sinkd(cross_entropy=0.0, debiased=True)": "test_sinkhorn.py",
            "uld": "test_uld.py",
            "multi_level_ot": "test_multi_level_ot.py",
        }.items()
    },
    **{
        ("value_and_gradient_are_those_of_the_slow_reference", f"dackl{chosen}"): (
            "a network has the thresholds: tests/test_dac_kl.py has one where they are given"
        )
        for chosen in (
            "",
            "(temperature=2.5)",
            "(thresholds=fixed, upper=0.8, rule=quantile)",
            "(gate=soft, tail=renorm)",
        )
    },
    ("gradcheck", "todi"): "the choice of each entry takes no gradient",
    ("gradcheck", "todi(temperature=2.5)"): "the choice of each entry takes no gradient",
}


def settings() -> dict[str, Callable[[], Objective]]:
    """Every objective at its defaults, at another temperature, and at `SETTINGS`, by its id."""
    found: dict[str, Callable[[], Objective]] = {}
    for name, kind in OBJECTIVES.items():
        if name in ELSEWHERE:
            continue
        tempered = [{"temperature": 2.5}] if issubclass(kind, Divergence) else []
        for chosen in ({}, *tempered, *SETTINGS.get(name, [])):
            arguments = ", ".join(f"{key}={value}" for key, value in chosen.items())
            build = lambda name=name, chosen=chosen: build_objective(name, **chosen)  # noqa: E731
            found[f"{name}({arguments})" if arguments else name] = build
    return found


def law(check: Callable[..., None]) -> Callable[..., None]:
    """Ask ``check`` of every setting; an exception is expected to fail, with its reason."""
    name = check.__name__.removeprefix("test_")
    known = settings()
    assert {key for excepted, key in EXCEPTIONS if excepted == name} <= set(known)
    parameters = [
        pytest.param(
            build,
            id=key,
            marks=[pytest.mark.xfail(reason=EXCEPTIONS[name, key], raises=AssertionError)]
            if (name, key) in EXCEPTIONS
            else [],
        )
        for key, build in known.items()
    ]
    return pytest.mark.parametrize("build", parameters)(check)


@pytest.fixture
def labels(generator: torch.Generator) -> Tensor:
    return torch.randint(V, (B, T), generator=generator)


@pytest.fixture
def mask(generator: torch.Generator) -> Tensor:
    kept = torch.rand(B, T, generator=generator) < 0.5
    kept[0, 0], kept[0, 1] = True, False
    return kept


def gradient(loss: Loss, student: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss.total, student, retain_graph=True)
    return found


def close(actual: Tensor, expected: Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=atol)


@law
def test_value_is_one_finite_number_over_all_positions(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    loss = build()(Step(student, teacher, labels))
    assert loss.total.shape == loss.count.shape == ()
    assert loss.total.dtype == torch.float64
    assert loss.count == B * T
    assert torch.isfinite(loss.total)
    assert torch.isfinite(gradient(loss, student)).all()
    assert not any(part.requires_grad for part in loss.parts.values())


@law
def test_value_and_gradient_are_those_of_the_slow_reference(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    objective = build().double()
    loss = objective(Step(student, teacher, labels))
    expected = by_reference(objective, student, teacher, labels)
    close(loss.total, expected)
    close(gradient(loss, student), torch.autograd.grad(expected, student)[0])


def by_reference(objective: Objective, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """The sum that an objective should be, from `tests.reference`, row by row."""
    learned = isinstance(objective, LearnableTemperature)
    rule = objective.objective if learned else objective
    (name,) = (name for name, kind in OBJECTIVES.items() if type(rule) is kind)
    assert name in REFERENCE, f"write {name} slowly, from its formula, in tests/reference.py"
    numbers = {
        key: getattr(rule, key)
        for key, parameter in signature(REFERENCE[name]).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }
    if learned:
        numbers["temperature"] = objective.temperature
    rows = [student.flatten(0, -2)]
    rows += [teacher.flatten(0, -2)] if objective.needs_teacher else []
    rows += [labels.flatten()] if objective.needs_labels else []
    total = torch.stack([REFERENCE[name](*row, **numbers) for row in zip(*rows, strict=True)]).sum()
    return total * numbers["temperature"] ** 2 if isinstance(rule, Divergence) else total


@law
def test_a_constant_added_to_a_row_of_logits_changes_nothing(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    loss = build()(Step(student, teacher, labels))
    rows = torch.linspace(-9, 9, T, dtype=torch.float64)[:, None]
    shifted = build()(Step(student + rows, teacher - 2 * rows, labels))
    close(shifted.total, loss.total)
    close(gradient(shifted, student), gradient(loss, student))


@law
def test_the_order_of_the_vocabulary_does_not_matter(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor, generator: torch.Generator
) -> None:
    order = torch.randperm(V, generator=generator)
    loss = build()(Step(student, teacher, labels))
    permuted = build()(Step(student[..., order], teacher[..., order], order.argsort()[labels]))
    close(permuted.total, loss.total)
    close(gradient(permuted, student), gradient(loss, student))


@law
def test_columns_at_minus_infinity_on_both_sides_are_outside_the_vocabulary(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    outside = torch.full((B, T, 2), -torch.inf, dtype=torch.float64)
    loss = build()(Step(student, teacher, labels))
    wide = torch.cat([student, outside], -1)
    padded = build()(Step(wide, torch.cat([teacher, outside], -1), labels))
    close(padded.total, loss.total)
    close(gradient(padded, student), gradient(loss, student))
    assert not gradient(build()(Step(wide, torch.cat([teacher, outside], -1), labels)), wide)[
        ..., V:
    ].any()


@law
def test_masking_is_removing(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor, mask: Tensor
) -> None:
    masked = build()(Step(student, teacher, labels.masked_fill(~mask, -100), mask))
    removed = build()(Step(student[mask], teacher[mask], labels[mask]))
    assert masked.count == removed.count == mask.sum()
    close(masked.total, removed.total)
    close(gradient(masked, student), gradient(removed, student))


@law
def test_what_stands_at_ignored_positions_does_not_leak(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor, mask: Tensor
) -> None:
    clean = build()(Step(student, teacher, labels, mask))
    for rubbish in (torch.nan, torch.inf, -torch.inf):
        dirty = student.detach().masked_fill(~mask[..., None], rubbish).requires_grad_()
        loss = build()(
            Step(
                dirty,
                teacher.masked_fill(~mask[..., None], rubbish),
                labels.masked_fill(~mask, 10**6),
                mask,
            )
        )
        close(loss.total, clean.total, atol=0)
        close(gradient(loss, dirty), gradient(clean, student), atol=0)


@law
def test_no_position_at_all_is_zero_with_a_graph(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    nothing = torch.zeros(B, T, dtype=torch.bool)
    loss = build()(Step(student, teacher, labels.masked_fill(~nothing, -100), nothing))
    assert loss.count == 0
    assert loss.mean() == 0
    assert not gradient(loss, student).any()


@law
def test_zero_at_a_match(build: Any, student: Tensor, labels: Tensor) -> None:
    loss = build()(Step(student, student.detach(), labels))
    assert loss.mean().abs() < 1e-7
    assert gradient(loss, student).abs().max() < 1e-7


@law
def test_never_negative(build: Any, labels: Tensor, generator: torch.Generator) -> None:
    for scale in (1e-3, 1.0, 30.0):
        shape = (2, B * T, V)
        student, teacher = torch.randn(shape, dtype=torch.float64, generator=generator) * scale
        for row, label in enumerate(labels.flatten()):
            loss = build()(Step(student[row], teacher[row], label))  # a position of its own
            assert loss.total >= -1e-12


@law
def test_half_precision_is_widened_first(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    for half in (torch.bfloat16, torch.float16):
        low = student.detach().to(half).requires_grad_()
        wide = low.detach().double().requires_grad_()
        loss = build()(Step(low, teacher.to(half), labels))
        exact = build()(Step(wide, teacher.to(half).double(), labels))
        assert loss.total.dtype == torch.float32
        torch.testing.assert_close(loss.total.double(), exact.total, rtol=1e-4, atol=1e-5)
        rounding = 2 * torch.finfo(half).eps
        torch.testing.assert_close(
            gradient(loss, low).double(), gradient(exact, wide), rtol=rounding, atol=1e-5
        )


@law
def test_gradcheck(build: Any, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
    objective = build()
    assert torch.autograd.gradcheck(
        lambda z: objective(Step(z, teacher, labels)).total, student, raise_exception=False
    )


@law
def test_hidden_states_and_a_head_give_what_their_logits_give(
    build: Any, teacher: Tensor, labels: Tensor, mask: Tensor
) -> None:
    hidden = torch.randn(B, T, 3, dtype=torch.float64, requires_grad=True)
    head = nn.Linear(3, V).double()
    dense = build()(Step(head(hidden), teacher, labels, mask))
    lazy = build()(Step(Projected(hidden, head), teacher, labels, mask))
    close(lazy.total, dense.total)
    for leaf in (hidden, head.weight):
        close(gradient(lazy, leaf), gradient(dense, leaf))


@law
def test_forward_changes_no_state(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    objective = build().train()
    before = copy.deepcopy((objective.state_dict(), numbers(objective)))
    objective(Step(student, teacher, labels)).total.backward()
    assert same(objective.state_dict(), before[0])
    assert numbers(objective) == before[1]


@law
def test_copies_and_pickles_are_the_same_objective(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    objective = build()
    expected = objective(Step(student, teacher, labels)).total
    for again in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective)):
        assert again(Step(student, teacher, labels)).total == expected


@law
def test_state_dict_brings_back_what_is_not_a_hyper_parameter(
    build: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    objective = build()
    with torch.no_grad():
        for tensor in (*objective.parameters(), *objective.buffers()):
            tensor.add_(0.25)
    if isinstance(objective, TAID):
        objective.t = 0.75
    again = build()
    again.load_state_dict(objective.state_dict())
    expected = objective(Step(student, teacher, labels)).total
    assert again(Step(student, teacher, labels)).total == expected


def numbers(objective: Objective) -> dict[str, Any]:
    return {
        f"{path}.{name}": value
        for path, module in objective.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, (int, float))
    }


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]
        for key, value in one.items()
    )
