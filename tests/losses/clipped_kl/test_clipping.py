"""Clipping: how thresholds learn, and the checks of hyper-parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from tests.losses.clipped_kl.test_dac_kl import WITHIN

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
