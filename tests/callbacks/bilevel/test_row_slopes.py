"""Derivatives of each row along a direction, by differences and by autograd."""

from __future__ import annotations

import torch
from torch import nn

from kdlight.callbacks.bilevel.row_slopes import exact, finite_differences
from kdlight.callbacks.bilevel.weights import moved_weights


def test_both_forms_are_the_product_with_the_jacobian():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    weights = [*net.parameters(), nn.Parameter(torch.ones(2).double())]  # one that is not used
    direction = [torch.randn_like(weight) for weight in weights]

    def values() -> torch.Tensor:
        return net(x).square().sum(-1)

    rows = values()
    expected = []
    for row in rows:
        gradients = torch.autograd.grad(row, weights, retain_graph=True, allow_unused=True)
        products = zip(gradients, direction, strict=True)
        expected.append(sum((g * d).sum() for g, d in products if g is not None))
    wanted = torch.stack([torch.as_tensor(each) for each in expected])
    torch.testing.assert_close(exact(values, weights, direction), wanted)
    with moved_weights(weights) as moved:
        found = finite_differences(values, moved, direction, 1e-4)
        assert torch.equal(values(), rows)  # moved back already
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_attention_has_a_second_derivative():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.randn(2, 3, 4)
    weights = list(layer.parameters())
    direction = [torch.ones_like(weight) for weight in weights]
    slopes = exact(lambda: layer(x, x, x, need_weights=False)[0].sum((1, 2)), weights, direction)
    with moved_weights(weights) as moved:
        found = finite_differences(
            lambda: layer(x, x, x, need_weights=False)[0].sum((1, 2)), moved, direction, 1e-2
        )
    torch.testing.assert_close(slopes, found, rtol=1e-2, atol=1e-2)
