"""The gates of DAC-KL: what is always kept, and how thresholds learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.clipped_kl.clipping import clip
from kdlight.losses.clipped_kl.gated_kl import TAILS
from tests.methods.test_dac_kl import RULES, WITHIN, close

CLIP: dict[str, Any] = {
    "rule": "mass",
    "tail": "bucket",
    "gate": "hard",
    "labels": None,
    "include_argmax": True,
    "gate_temperature": 0.05,
    "residual": 0.0,
    "temperature": 1.0,
    "head": None,
}


@pytest.fixture
def student(generator: torch.Generator) -> Tensor:
    return (3 * torch.randn(6, 40, dtype=torch.float64, generator=generator)).requires_grad_()


@pytest.fixture
def labels(generator: torch.Generator) -> Tensor:
    return torch.randint(40, (6,), generator=generator)


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


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("rule", [*RULES, "clamp"])
def test_the_slopes_of_soft_thresholds_are_those_of_the_loss(
    rule: Any, tail: Any, student: Tensor, teacher: Tensor, labels: Tensor
) -> None:
    def both(lower: Tensor, upper: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
        options = {**CLIP, "rule": rule, "tail": tail, "gate": "soft", "labels": labels}
        found = clip(student, teacher, lower=lower, upper=upper, **options)
        return found.values, found.mass

    thresholds = [torch.full((6,), x, dtype=torch.float64) for x in WITHIN.values()]
    leaves = [x.requires_grad_() for x in thresholds]
    check = (lambda *x: both(*x)[0]) if rule == "clamp" else both
    assert torch.autograd.gradcheck(check, (*leaves, student))


@pytest.mark.parametrize("tail", ["bucket", "renorm", "residual"])
def test_thresholds_move_through_soft_gates_and_straight_through_but_not_hard_ones(
    tail: Any, student: Tensor, teacher: Tensor
) -> None:
    gradients = {}
    for gate in ("hard", "soft", "ste"):
        upper = torch.full((6,), 0.8, dtype=torch.float64, requires_grad=True)
        found = losses.dac_kl(student, teacher, lower=0.05, upper=upper, gate=gate, tail=tail)
        (gradients[gate],) = torch.autograd.grad(found.sum(), upper, allow_unused=True)
    assert gradients["hard"] is None
    for gate in ("soft", "ste"):
        assert gradients[gate].isfinite().all()
        assert gradients[gate].any()


def test_half_precision_is_widened_first(student: Tensor, teacher: Tensor) -> None:
    low, high = student.detach().bfloat16(), teacher.bfloat16()
    found = losses.dac_kl(low, high, **WITHIN)
    assert found.dtype == torch.float32
    assert torch.equal(found, losses.dac_kl(low.float(), high.float(), **WITHIN))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "top"}, "rule must be one of .* got 'top'"),
        ({"tail": "head"}, "tail must be one of .* got 'head'"),
        ({"gate": "open"}, "gate must be one of .* got 'open'"),
        ({"upper": 1.5}, r"upper must be in \[0.0, 1.0\], got 1.5"),
        ({"lower": 0.9}, "lower must be below upper"),
        ({"gate_temperature": 0.0}, "gate_temperature must be above 0"),
        ({"residual": 0.5}, "residual=0.5 needs tail='residual'"),
        ({"gate": "ste", "tail": "renorm_teacher"}, "gradient of -inf"),
    ],
)
def test_bad_input_is_refused_in_words(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.dac_kl(torch.zeros(2, 5), torch.zeros(2, 5), **{**WITHIN, **wrong})
