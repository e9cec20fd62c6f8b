"""The laws of DAC-KL with given thresholds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.clipped_kl.gated_kl import TAILS

RULES = ("mass", "quantile", "value")
WITHIN: dict[str, Any] = {"lower": 0.05, "upper": 0.8}


def slope(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


def by_hand(
    student: Tensor, teacher: Tensor, kept: list[int], tail: str, residual: float
) -> Tensor:
    """One row from the formulas, over the tokens in ``kept``."""
    q, p = student.softmax(-1), teacher.softmax(-1)
    rest = [v for v in range(len(p)) if v not in kept]
    in_p, in_q = p[kept].sum(), q[kept].sum()
    if tail == "none":
        return (p[kept] * (p[kept] / q[kept]).log()).sum()
    share = {"bucket": 0.0, "renorm_teacher": 1.0}.get(tail, residual)
    whole = in_p + share * (1 - in_p) if tail != "renorm" else 1.0
    target, said = whole * p[kept] / in_p, q[kept] / (in_q if tail == "renorm" else 1.0)
    value = (target * (target / said).log()).sum()
    if tail in ("bucket", "residual") and rest and share < 1:
        value = value + (1 - whole) * ((1 - whole) / q[rest].sum()).log()
    return value


def kept_by_hand(p: Tensor, rule: str, lower: float, upper: float) -> list[int]:
    order = p.argsort(descending=True).tolist()
    kept, before = {order[0]}, 0.0
    quantiles = torch.quantile(p, torch.tensor([lower, upper], dtype=p.dtype)).tolist()
    for v in order:
        mass = p[v].item()
        if rule == "mass":
            keep = before < upper and before + mass > lower
        else:
            low, high = quantiles if rule == "quantile" else (lower, upper)
            keep = low <= mass <= high
        before += mass
        kept |= {v} if keep else set()
    return sorted(kept)


@pytest.mark.parametrize("residual", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("rule", RULES)
def test_value_and_gradient_are_those_of_the_formula(
    rule: Any, tail: Any, residual: float, student: Tensor, teacher: Tensor
) -> None:
    if residual and tail != "residual":
        return
    found = losses.dac_kl(student, teacher, rule=rule, tail=tail, residual=residual, **WITHIN)
    rows = []
    for s, t in zip(student, teacher, strict=True):
        kept = kept_by_hand(t.softmax(-1), rule, **WITHIN)
        assert 0 < len(kept) < 40
        rows.append(by_hand(s, t, kept, tail, residual))
    close(found, torch.stack(rows))
    close(slope(found, student), slope(torch.stack(rows), student))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tail", TAILS)
def test_all_tokens_kept_is_forward_kl(
    tail: Any, dtype: torch.dtype, student: Tensor, teacher: Tensor
) -> None:
    q, p = student.detach().to(dtype).requires_grad_(), teacher.to(dtype)
    found = losses.dac_kl(q, p, lower=0.0, upper=1.0, tail=tail)
    expected = losses.forward_kl(q, p)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slope(found, q), slope(expected, q))


@pytest.mark.parametrize("gate", ["hard", "soft"])
@pytest.mark.parametrize("residual", [0.0, 0.5])
def test_the_bucket_lies_between_nothing_and_forward_kl_and_grows(
    gate: Any, residual: float, student: Tensor, teacher: Tensor
) -> None:
    before, full = torch.zeros(6, dtype=torch.float64), losses.forward_kl(student, teacher)
    for upper in (0.1, 0.3, 0.6, 0.9, 0.99):
        options: Any = {"tail": "residual", "residual": residual} if residual else {}
        now = losses.dac_kl(student, teacher, lower=0.0, upper=upper, gate=gate, **options)
        assert (now >= 0).all()
        if not residual and gate == "hard":
            assert (now >= before - 1e-12).all()
        if not residual:
            assert (now <= full + 1e-12).all()
        before = now


@pytest.mark.parametrize("gate", ["hard", "soft"])
@pytest.mark.parametrize("tail", ["bucket", "renorm", "none"])
def test_zero_at_a_match(tail: Any, gate: Any, student: Tensor) -> None:
    found = losses.dac_kl(student, student.detach(), tail=tail, gate=gate, **WITHIN)
    close(found, torch.zeros_like(found))
    if tail != "none":
        close(slope(found, student), torch.zeros_like(student))


def test_a_single_token_has_nothing_to_be_compared_with(student: Tensor, teacher: Tensor) -> None:
    found = losses.dac_kl(student, teacher, lower=0.0, upper=1e-9, tail="renorm")
    close(found, torch.zeros_like(found))
    close(slope(found, student), torch.zeros_like(student))


def test_the_ends_of_the_residual_family_have_names(student: Tensor, teacher: Tensor) -> None:
    for residual, tail in ((0.0, "bucket"), (1.0, "renorm_teacher")):
        family: Any = {"tail": "residual", "residual": residual}
        named: Any = {"tail": tail}
        one = losses.dac_kl(student, teacher, **WITHIN, **family)
        other = losses.dac_kl(student, teacher, **WITHIN, **named)
        close(one, other)
        close(slope(one, student), slope(other, student))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tail", TAILS)
def test_shifts_and_the_order_of_the_vocabulary_change_nothing(
    tail: Any, rule: Any, student: Tensor, teacher: Tensor, labels: Tensor, generator: Any
) -> None:
    order = torch.randperm(40, generator=generator)
    rows = torch.linspace(-9, 9, 6, dtype=torch.float64)[:, None]
    options: Any = {**WITHIN, "tail": tail, "rule": rule}
    found = losses.dac_kl(student, teacher, labels=labels, **options)
    shifted = losses.dac_kl(student + rows, teacher - rows, labels=labels, **options)
    other = order.argsort()[labels]
    permuted = losses.dac_kl(student[:, order], teacher[:, order], labels=other, **options)
    for each in (shifted, permuted):
        close(each, found)
        close(slope(each, student), slope(found, student))
    close(slope(found, student).sum(-1), torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("rule", [*RULES, "clamp"])
@pytest.mark.parametrize("tail", TAILS)
def test_columns_outside_the_vocabulary_are_not_there(
    tail: Any, rule: Any, student: Tensor, teacher: Tensor
) -> None:
    outside = torch.full((6, 5), -torch.inf, dtype=torch.float64)
    gate = "hard" if tail == "renorm_teacher" else "ste"
    options: Any = {**WITHIN, "tail": tail, "rule": rule, "gate": gate}
    wide = torch.cat([student, outside], -1)
    found = losses.dac_kl(student, teacher, **options)
    padded = losses.dac_kl(wide, torch.cat([teacher, outside], -1), **options)
    close(padded, found)
    close(slope(padded, student), slope(found, student))


@pytest.mark.parametrize("tail", TAILS)
def test_what_the_student_forbids_is_infinite_and_its_gradient_is_not(
    tail: Any, student: Tensor, teacher: Tensor
) -> None:
    gate = "soft" if tail == "renorm_teacher" else "ste"
    forbidding = student.detach().clone()
    forbidding[0, teacher[0].argmax()] = -torch.inf
    forbidding.requires_grad_()
    lower = torch.full((6,), 0.05, dtype=torch.float64, requires_grad=True)
    upper = torch.full((6,), 0.8, dtype=torch.float64, requires_grad=True)
    found = losses.dac_kl(forbidding, teacher, lower=lower, upper=upper, tail=tail, gate=gate)
    assert found[0] == torch.inf
    assert found[1:].isfinite().all()
    for leaf in (forbidding, lower, upper):
        (gradient,) = torch.autograd.grad(found.sum(), leaf, retain_graph=True)
        assert gradient.isfinite().all()


def test_a_nan_is_not_hidden(student: Tensor, teacher: Tensor) -> None:
    for where in (0, 1):
        sides = [student.detach().clone(), teacher.clone()]
        sides[where][2, 7] = torch.nan
        found = losses.dac_kl(*sides, **WITHIN)
        assert found.isnan().tolist() == [False, False, True, False, False, False]


def test_half_precision_is_widened_first(student: Tensor, teacher: Tensor) -> None:
    low, high = student.detach().bfloat16(), teacher.bfloat16()
    found = losses.dac_kl(low, high, **WITHIN)
    assert found.dtype == torch.float32
    assert torch.equal(found, losses.dac_kl(low.float(), high.float(), **WITHIN))
