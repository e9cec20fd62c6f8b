"""The gates of DAC-KL: which tokens two thresholds keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses.clipped_kl import gates as kl_gates
from kdlight.losses.clipped_kl.clipping import clip
from kdlight.losses.likeliest import likeliest
from tests.losses.clipped_kl.test_clipping import CLIP
from tests.losses.clipped_kl.test_dac_kl import RULES, close


@pytest.mark.parametrize("gate", ["hard", "soft", "ste"])
@pytest.mark.parametrize("rule", RULES)
def test_the_label_and_the_likeliest_token_are_kept_whole(
    rule: Any, gate: Any, student: Tensor, teacher: Tensor
) -> None:
    labels = teacher.argmin(-1)
    labels[0] = -100
    options = {**CLIP, "rule": rule, "gate": gate, "labels": labels}
    narrow = {"lower": 1e-9, "upper": 2e-9} if rule == "value" else {"lower": 0.5, "upper": 0.5001}
    for low, high in ([*narrow.values()], [0.999, 0.9995]):
        found = clip(student, teacher, lower=low, upper=high, **options)
        p = teacher.softmax(-1)
        least = p.max(-1).values
        least[1:] += p[1:].min(-1).values
        assert (found.mass >= least - 1e-12).all()


@pytest.mark.parametrize("gate", ["hard", "soft", "ste"])
@pytest.mark.parametrize("upper", [0.5, 0.9, 0.9999, 1.0])
def test_looking_at_the_likeliest_first_keeps_the_same(
    gate: Any, upper: float, student: Tensor, teacher: Tensor
) -> None:
    for head in (3, 12, 39, 100):
        short, whole = (
            clip(student, teacher, **{**CLIP, "head": h}, lower=0.1, upper=upper)
            for h in (head, None)
        )
        close(short.values, whole.values)
        assert torch.equal(short.kept, whole.kept)


P = torch.tensor([[0.15, 0.5, 0.3, 0.05]], dtype=torch.float64)
MIDDLES = [0.875, 0.25, 0.65, 0.975]


def threshold(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("rule", "lower", "upper", "kept", "coordinates"),
    [
        ("mass", 0.0, 0.5, [1], MIDDLES),
        ("mass", 0.5, 0.9, [0, 2], MIDDLES),
        ("mass", 0.0, 1.0, [0, 1, 2, 3], MIDDLES),
        ("quantile", 0.0, 0.5, [0, 3], [1 / 3, 1.0, 2 / 3, 0.0]),
        ("value", 0.1, 0.4, [0, 2], P[0].tolist()),
    ],
)
def test_a_rule_keeps_what_lies_between_its_thresholds(
    rule: Any, lower: float, upper: float, kept: list[int], coordinates: list[float]
) -> None:
    keep, places = kl_gates.RULES[rule](P, threshold(lower), threshold(upper), None)
    assert keep[0].nonzero()[:, 0].tolist() == kept
    assert places[0].tolist() == pytest.approx(coordinates)


def test_a_soft_gate_is_a_product_of_two_sigmoids_with_their_gradients() -> None:
    def soft(lower: Tensor, upper: Tensor) -> kl_gates.Gates:
        return kl_gates.clip_gates(
            P,
            lower,
            upper,
            rule="value",
            gate="soft",
            gate_temperature=0.1,
            labels=torch.tensor([3]),
            include_argmax=True,
            head=None,
        )

    lower, upper = threshold(0.2), threshold(0.4)
    gates = soft(lower, upper)
    by_hand = ((P - 0.2) / 0.1).sigmoid() * ((0.4 - P) / 0.1).sigmoid()
    assert gates.gate[0, [1, 3]].tolist() == [1.0, 1.0]  # the likeliest token, and the label
    torch.testing.assert_close(gates.gate[0, [0, 2]], by_hand[0, [0, 2]])
    assert gates.grads is not None
    step = 1e-6
    for grad, (low, high) in zip(gates.grads, ((step, 0.0), (0.0, step)), strict=True):
        above, below = soft(lower + low, upper + high), soft(lower - low, upper - high)
        slope = (above.gate - below.gate) / (2 * step)
        torch.testing.assert_close(grad, slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_token_of_probability_0_is_never_kept(rule: Any) -> None:
    p = torch.tensor([[0.0, 0.6, 0.4, 0.0]], dtype=torch.float64)
    for gate in kl_gates.GATES:
        gates = kl_gates.clip_gates(
            p,
            threshold(0.0),
            threshold(1.0),
            rule=rule,
            gate=gate,  # type: ignore[arg-type]
            gate_temperature=0.1,
            labels=torch.tensor([0]),
            include_argmax=True,
            head=None,
        )
        assert gates.gate[0, [0, 3]].tolist() == [0.0, 0.0]
        assert (gates.gate[0, [1, 2]] > 0).all()


@pytest.mark.parametrize("upper", [0.5, 0.95, 1.0])
def test_the_gates_are_the_same_where_values_cannot_be_read(
    upper: float, teacher: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = (teacher * torch.linspace(0.1, 3.0, len(teacher)).unsqueeze(-1)).softmax(-1)
    uppers = torch.full_like(p[:, :1], upper)
    cases = [(p, 0.1 * uppers, uppers, head) for head in (1, 3, 20, 100)]
    expected = [kl_gates.by_mass(*case) for case in cases]
    monkeypatch.setattr(kl_gates, "is_in_memory", lambda tensor: False)
    for case, places in zip(cases, expected, strict=True):
        for one, other in zip(kl_gates.by_mass(*case), places, strict=True):
            close(one.double(), other.double())


@pytest.mark.parametrize("gate", ["ste", "soft"])
@pytest.mark.parametrize("width", [0.02, 0.05, 0.1])
def test_the_number_of_sorted_tokens_hardly_changes_the_gradient_of_a_threshold(
    width: float, gate: Any
) -> None:
    head, generator = 20, torch.Generator().manual_seed(0)
    teacher = torch.linspace(0.7, 3.0, 16).unsqueeze(-1) * torch.randn(16, 800, generator=generator)
    student = (teacher + torch.randn(16, 800, generator=generator) / 2).double()
    mass = teacher.double().softmax(-1).topk(head, -1).values.sum(-1)
    for distance in (0.0, kl_gates.FAR * width):  # where few tokens are enough, but just so
        grads = []
        for sorted_first in (head, None):
            upper = (mass - distance - 1e-6).clamp(0.3, 0.999).requires_grad_()
            options = {**CLIP, "gate": gate, "gate_temperature": width, "head": sorted_first}
            found = clip(student, teacher.double(), lower=0.0, upper=upper, **options)
            grads.append(torch.autograd.grad(found.values.sum() - found.mass.sum(), upper)[0])
        torch.testing.assert_close(*grads, rtol=0.015, atol=0.0)


def test_rows_that_are_nearly_flat_are_sorted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(p: Tensor, count: int) -> tuple[Tensor, Tensor]:
        counts.append(count)
        return likeliest(p, count)

    monkeypatch.setattr(kl_gates, "likeliest", counted)
    p = torch.full((2, 600), 1 / 600)
    kl_gates.by_mass(p, torch.zeros(2, 1), torch.full((2, 1), 0.9), 1)
    assert counts == [1, 600]
