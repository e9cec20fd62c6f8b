"""The gated part of DAC-KL, and its gradient in the gates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses.clipped_kl.clipping import clip
from kdlight.losses.clipped_kl.gated_kl import TAILS, gate_grad, gated_kl
from tests.losses.clipped_kl.test_clipping import CLIP
from tests.losses.clipped_kl.test_dac_kl import RULES, WITHIN


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


def test_a_gate_that_is_half_open_leaves_half_of_the_token_to_the_tail() -> None:
    p, q = (torch.tensor([x, 1 - x], dtype=torch.float64) for x in (0.8, 0.6))
    gate = torch.tensor([0.5, 0.0], dtype=torch.float64)
    value = gated_kl(p, p.log(), q.log(), gate, tail="bucket", residual=0.0)
    expected = 0.4 * math.log(0.4 / 0.3) + 0.6 * math.log(0.6 / 0.7)
    assert value.item() == pytest.approx(expected)
    assert gated_kl(p, p.log(), q.log(), gate, tail="none", residual=0.0).item() == pytest.approx(
        0.4 * math.log(0.8 / 0.6)
    )


@pytest.mark.parametrize("tail", TAILS)
def test_the_gradient_in_the_gate_is_the_slope_of_the_value(
    tail: Any, student: Tensor, teacher: Tensor, generator: torch.Generator
) -> None:
    log_p, log_q = teacher[0].log_softmax(-1), student[0].detach().log_softmax(-1)
    gate = 0.1 + 0.8 * torch.rand(40, dtype=torch.float64, generator=generator)
    options: Any = {"tail": tail, "residual": 0.3}
    grad = gate_grad(log_p.exp(), log_p, log_q, gate, **options)
    steps = 1e-6 * torch.eye(40, dtype=torch.float64)
    above, below = (
        torch.stack(
            [gated_kl(log_p.exp(), log_p, log_q, gate + s, **options) for s in sign * steps]
        )
        for sign in (1, -1)
    )
    torch.testing.assert_close(grad, (above - below) / 2e-6, rtol=1e-5, atol=1e-8)
