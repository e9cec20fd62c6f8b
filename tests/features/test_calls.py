"""Calls of modules are passed on with their arguments, and nothing is left behind."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from kdlight.features import not_captured
from kdlight.features.calls import ModuleCall, ModuleCalls


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_arguments_are_those_of_before_the_call() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    calls: dict[str, ModuleCall] = {}
    x = torch.randn(4, 2)
    with ModuleCalls(network, ["1", "2"], lambda call: calls.update({call.path: call})):
        output = network(x)
    assert torch.equal(calls["1"].args[0], network[0](x))
    assert (calls["1"].args[0] < 0).any()
    assert torch.equal(calls["2"].args[0], network[0](x).relu())
    assert torch.equal(calls["2"].output, output)
    assert not any(
        each.output.requires_grad or each.args[0].requires_grad for each in calls.values()
    )


def test_nothing_is_kept_after_a_call() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    held: list[weakref.ref[Tensor]] = []

    def observe(call: ModuleCall) -> None:
        assert not [each for each in held if each() is not None]
        held.append(weakref.ref(call.args[0]))

    with torch.no_grad(), ModuleCalls(network, ["0", "1"], observe):
        network(torch.randn(4, 2))
    assert len(held) == 2
    assert not [each for each in held if each() is not None]


class Layer(nn.Module):
    def forward(self, x: Tensor, *, mask: Tensor, past: Any, parts: tuple, scale: float) -> Any:
        parts[0].zero_()
        return {"first": x * scale, "second": (x, mask)}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Layer()

    def forward(self, x: Tensor) -> Any:
        class Cache:
            def get_seq_length(self) -> int:
                return 0

        mask = torch.ones(2, dtype=torch.bool)
        return self.layer(x, mask=mask, past=Cache(), parts=(x + 1, [x]), scale=2.0)


def test_keyword_arguments_and_nested_ones() -> None:
    network, x = Network(), torch.randn(2)
    calls: list[ModuleCall] = []
    with ModuleCalls(network, ["layer", "layer:output.second"], calls.append):
        network(x)
    assert torch.equal(calls[0].output, 2 * x)
    assert torch.equal(calls[1].output, x)
    for _, args, kwargs, _ in calls:
        assert torch.equal(args[0], x)
        assert torch.equal(kwargs["parts"][0], x + 1)
        assert kwargs["parts"][1][0] is not x
        assert kwargs["past"] is None
        assert kwargs["mask"].all()
        assert kwargs["scale"] == 2.0


def test_hooks_are_gone_after_the_block_and_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with ModuleCalls(network, ["0"], lambda call: None):
        assert hooks(network) == 2
        network(torch.zeros(1, 2))
    assert hooks(network) == 0

    def fail(call: ModuleCall) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), ModuleCalls(network, ["0", "1"], fail):
        network(torch.zeros(1, 2))
    assert hooks(network) == 0
    with pytest.raises(ZeroDivisionError), ModuleCalls(network, ["0"], lambda call: None):
        raise ZeroDivisionError
    assert hooks(network) == 0


def test_modules_run_once() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def run(path: str, times: int) -> None:
        with ModuleCalls(network, [path], lambda call: None):
            for _ in range(times):
                network[0](torch.zeros(1, 2))

    run("0", 1)
    with pytest.raises(ValueError, match="'0' of Sequential runs several times"):
        run("0", 2)
    with pytest.raises(ValueError, match="'1' of Sequential did not run"):
        run("1", 1)
    seen: list[ModuleCall] = []
    with ModuleCalls(network, ["0"], seen.append):
        with not_captured():
            network(torch.zeros(1, 2))
        network(torch.zeros(3, 2))
    assert [len(call.output) for call in seen] == [3]
    assert hooks(network) == 0


def test_paths_of_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="'0:input' is that of an input"):
        ModuleCalls(nn.Sequential(nn.ReLU()), ["0:input"], lambda call: None)


class Pair(NamedTuple):
    x: Tensor
    scale: float


@dataclass
class Box:
    x: Tensor
    scale: float


@pytest.mark.parametrize("kind", [Pair, Box])
def test_entries_of_named_tuples_and_dataclasses_are_copied(kind: Any) -> None:
    class Adds(nn.Module):
        def forward(self, given: Any) -> Tensor:
            return given.x.add_(1.0) * given.scale

    calls: list[ModuleCall] = []
    with ModuleCalls(network := nn.Sequential(Adds()), ["0"], calls.append):
        network(given := kind(torch.zeros(2), 3.0))
    (copied,) = calls[0].args
    assert type(copied) is kind
    assert (copied.x == 0).all()
    assert copied.scale == 3.0
    assert (given.x == 1).all()  # the module of the network had its own argument
