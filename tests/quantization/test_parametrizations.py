"""Modules read quantized weights, and the weights that are trained stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from kdlight.quantization import (
    LearnedPoints,
    Quantization,
    UniformQuantization,
    is_quantized,
    nearest_points,
    uniform_quantize,
)

KINDS: dict[str, Callable[[Tensor], Quantization]] = {
    "uniform": lambda weight: UniformQuantization(bits=2, bucket=16),
    "points": lambda weight: LearnedPoints.of(weight, bits=2, bucket=16),
}


def layer(kind: str, dtype: torch.dtype = torch.float64) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(10, 6, dtype=dtype)
    register_parametrization(made, "weight", KINDS[kind](made.weight))
    return made


def original(module: nn.Module) -> nn.Parameter:
    return module.get_parameter("parametrizations.weight.original")


@pytest.mark.parametrize("kind", KINDS)
def test_the_forward_pass_leaves_the_weight_bitwise_as_it_is(kind: str) -> None:
    network = layer(kind)
    before = original(network).detach().clone()
    for mode in (True, False):
        network.train(mode)(torch.randn(3, 10, dtype=torch.float64)).sum().backward()
    assert torch.equal(original(network), before)
    assert not torch.equal(network.weight, before)
    assert all(len(row.unique()) <= 4 for row in network.weight.flatten()[:48].view(-1, 16))


def test_a_step_of_sgd_is_one_by_hand_with_a_swap_of_weights() -> None:
    """The published loop: quantize, differentiate there, restore, step."""
    network, x = layer("uniform"), torch.randn(20, 10, dtype=torch.float64)
    plain = nn.Linear(10, 6, dtype=torch.float64)
    plain.load_state_dict({"weight": original(network).detach(), "bias": network.bias.detach()})
    ours = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        ours.zero_grad()
        network(x).square().mean().backward()
        ours.step()
        theirs.zero_grad()
        kept = plain.weight.detach().clone()
        plain.weight.data = uniform_quantize(kept, bits=2, bucket=16)
        plain(x).square().mean().backward()
        plain.weight.data = kept
        theirs.step()
    torch.testing.assert_close(original(network), plain.weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(network.bias, plain.bias, rtol=0, atol=1e-12)


def test_points_are_sorted_when_they_are_used_and_their_gradient_follows() -> None:
    network = layer("points")
    points = network.get_parameter("parametrizations.weight.0.points")
    order = torch.tensor([2, 0, 3, 1])
    outer = torch.randn(6, 10, dtype=torch.float64)
    sorted_points = points.detach().clone().requires_grad_()
    expected = nearest_points(original(network), sorted_points, bucket=16).values
    expected.backward(outer)
    assert sorted_points.grad is not None
    with torch.no_grad():
        points.copy_(sorted_points[order])
    torch.testing.assert_close(network.weight, expected, rtol=0, atol=0)
    network.weight.backward(outer)
    torch.testing.assert_close(points.grad, sorted_points.grad[order], rtol=0, atol=0)
    assert original(network).grad is None


def test_training_points_lowers_the_error() -> None:
    torch.manual_seed(0)
    target = torch.randn(32, 32) ** 3 / 50
    network = nn.Linear(32, 32, bias=False)
    network.weight.data = target.clone()
    network.requires_grad_(False)
    register_parametrization(network, "weight", LearnedPoints.of(target, bits=2, bucket=None))
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    errors = []
    for _ in range(100):
        loss = (network.weight - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.6 * errors[0]
    assert torch.equal(original(network), target)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_state_dicts_are_whole(kind: str) -> None:
    network, other = layer(kind), layer(kind)
    with torch.no_grad():
        original(network).add_(torch.randn(6, 10, dtype=torch.float64))
    x = torch.randn(3, 10, dtype=torch.float64)
    assert torch.equal(copy.deepcopy(network)(x), network(x))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_that_became_nan_is_not_hidden(kind: str) -> None:
    network = layer(kind)
    with torch.no_grad():
        original(network)[0, 0] = torch.nan
    assert network.weight.flatten()[:16].isnan().all()
    assert network.weight.flatten()[16:].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast(kind: str, dtype: torch.dtype) -> None:
    network = layer(kind, torch.float32)
    wide = network.weight.detach()
    network.to(dtype)
    assert network.weight.dtype == dtype
    torch.testing.assert_close(network.weight.float(), wide, rtol=2e-2, atol=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.float()(torch.randn(3, 10)).dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_network_computes_the_same(kind: str) -> None:
    network, x = layer(kind, torch.float32), torch.randn(3, 10)
    torch.testing.assert_close(torch.compile(network, backend="aot_eager")(x), network(x))


def test_what_they_are_is_shown() -> None:
    uniform = repr(layer("uniform"))
    assert "UniformQuantization(bits=2, bucket=16)" in uniform
    assert "LearnedPoints(points=4, bucket=16)" in repr(layer("points"))


def test_networks_with_quantized_weights_are_found() -> None:
    assert is_quantized(nn.Sequential(layer("points")))
    assert not is_quantized(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)))
