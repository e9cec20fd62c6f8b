"""A loss on a feature inside a sharded network runs the hooks on the outputs of the network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from kdlight.distributed.backward_entry import ShardedOutputs
from tests.support.gloo import run_on_ranks


@dataclass
class Output:
    hidden: Tensor
    name: str = "output"


class Block(nn.Module):
    """Two linear maps; the first is the feature."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
        self.wrap = wrap
        self.feature = torch.zeros(())

    def forward(self, x: Tensor) -> Any:
        self.feature = self.first(x)
        return self.wrap(self.second(self.feature.tanh()))


KINDS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda x: x,
    "tuple": lambda x: (None, [x]),
    "mapping": lambda x: {"hidden": x},
    "dataclass": Output,
}


def gradients(block: Block, x: Tensor, *, attach: bool) -> dict[str, Tensor | None]:
    with ShardedOutputs(block) as outputs:
        block(x)
    feature = outputs.attach(block.feature) if attach else block.feature
    feature.square().sum().backward()
    return {name: p.grad for name, p in block.named_parameters()}


def _inside(rank: int) -> None:
    mesh = init_device_mesh("cpu", (2,))
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = gradients(Block(lambda y: y), x, attach=False)
    assert expected["second.weight"] is None
    for wrap in KINDS.values():
        block = Block(wrap)
        fully_shard(block, mesh=mesh)
        got = gradients(block, x[rank::2], attach=True)
        assert got["second.weight"] is None
        for name in ("first.weight", "first.bias"):
            whole: Any = got[name]
            torch.testing.assert_close(2 * whole.full_tensor(), expected[name], atol=0, rtol=1e-12)
    # the test can fail
    block = Block(lambda y: y)
    root = nn.Sequential(nn.Linear(4, 4).double(), block)
    fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh)
    root(x[rank::2])
    with pytest.raises(RuntimeError, match="storage"):
        block.feature.square().sum().backward()


@pytest.mark.slow
def test_a_loss_inside_of_a_sharded_module_has_the_gradient_of_one_process() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_on_ranks(_inside, Path(folder))


def test_a_network_that_is_not_sharded_is_left_alone() -> None:
    block = Block(lambda x: x)
    with ShardedOutputs(block) as outputs:
        block(torch.zeros(2, 4, dtype=torch.float64))
        assert not block._forward_hooks
    assert outputs.attach(block.feature) is block.feature


class Sharded(Block, FSDPModule):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # that of FSDPModule makes another class
        return nn.Module.__new__(cls)


def test_outputs_are_in_the_graph_without_a_gradient() -> None:
    block, seen = Sharded(Output), []
    network = nn.Sequential(nn.Identity(), block)
    with ShardedOutputs(network) as outputs:
        output = network(torch.ones(2, 4, dtype=torch.float64))
    assert not block._forward_hooks
    output.hidden.register_hook(lambda grad: seen.append(grad))
    feature = outputs.attach(block.feature)
    assert torch.equal(feature, block.feature)
    feature.sum().backward()
    assert seen == [None]
    assert block.second.weight.grad is None
    assert torch.equal(block.first.bias.grad, torch.full((4,), 2.0, dtype=torch.float64))  # type: ignore[arg-type]


def test_without_gradients_nothing_is_attached() -> None:
    block = Sharded(lambda x: x)
    with torch.no_grad(), ShardedOutputs(block) as outputs:
        block(torch.zeros(2, 4, dtype=torch.float64))
    assert outputs.attach(block.feature) is block.feature


def test_hooks_are_gone_after_an_error() -> None:
    block = Sharded(lambda x: x)
    with pytest.raises(RuntimeError), ShardedOutputs(block):
        block(torch.zeros(2, 3, dtype=torch.float64))
    assert not block._forward_hooks
