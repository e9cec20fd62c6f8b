"""Weights that are moved for a while."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlight.callbacks.bilevel.weights import kept_buffers, moved_weights, norm
from tests.support.bilevel_fit import quiet_trainer


def test_weights_come_back_to_the_same_bits_after_an_error():
    weights = [nn.Parameter(torch.randn(50) * 1e3), nn.Parameter(torch.randn(3, 3))]
    before = [weight.detach().clone() for weight in weights]
    steps = [torch.randn_like(weight) / 3 for weight in weights]

    def move() -> None:
        with moved_weights(weights) as moved:
            moved.to(steps, 0.7)
            moved.to(steps, -0.3)
            for weight, value, step in zip(weights, before, steps, strict=True):
                torch.testing.assert_close(weight.detach(), value - 0.3 * step)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        move()
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


class Replacing(nn.Module):
    """Has a buffer that is replaced, and one that is written to."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("none", None)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + 1
        return self.norm(x)


def test_buffers_come_back_as_the_same_tensors():
    network = Replacing()
    before = dict(network.named_buffers())
    values = {name: buffer.clone() for name, buffer in before.items()}
    with kept_buffers(network):
        network(torch.randn(4, 2))
        assert network.seen == 1
    for name, buffer in network.named_buffers():
        assert buffer is before[name]
        assert torch.equal(buffer, values[name])


def test_the_norm_is_that_of_all_entries():
    tensors = [torch.randn(3, 4), torch.randn(5).double()]
    expected = torch.cat([each.double().flatten() for each in tensors]).norm().item()
    assert norm(quiet_trainer(), tensors) == pytest.approx(expected, rel=1e-6)
