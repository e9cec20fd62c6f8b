"""The REDI loss of pairs of sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight import losses


def test_value_and_gradient_weigh_chosen_and_rejected() -> None:
    chosen = torch.tensor([-0.5, -2.0], requires_grad=True)
    rejected = torch.tensor([-1.0, -3.0], requires_grad=True)
    values = losses.redi(chosen, rejected, alpha=0.8, chosen_weight=0.5)
    torch.testing.assert_close(values, torch.tensor([0.25 - 0.8, 1.0 - 2.4]))
    grads = torch.autograd.grad(values.sum(), (chosen, rejected))
    torch.testing.assert_close(grads, (torch.full((2,), -0.5), torch.full((2,), 0.8)))


def test_alpha_of_0_trains_on_the_chosen_sequences_alone() -> None:
    chosen = torch.tensor([-0.5, -2.0])
    assert torch.equal(losses.redi(chosen, torch.tensor([-9.0, -1.0]), alpha=0.0), -chosen)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: losses.redi(m, m, alpha=1.5), "alpha must be in"),
        (lambda m: losses.redi(m, m, chosen_weight=-1.0), "chosen_weight must be in"),
        (lambda m: losses.redi(m, m[:1]), "one log-probability per pair"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2))
