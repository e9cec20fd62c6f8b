"""Layers that are sharded one by one, and the norm of gradients that are divided differently."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from kdlight.distributed import shard
from kdlight.distributed.divided import is_divided
from kdlight.distributed.sharding import clip_norm, layers
from tests.support.gloo import run_on_ranks


class Network(nn.Module):
    """Two layers in a list, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, 3)
        self.tensor_parallel_plan = {
            "layers.0": "colwise",
            "layers.1": "rowwise",
            "head": "colwise_gather_output",
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)


def mesh(data_parallel: int, tensor_parallel: int) -> DeviceMesh:
    names = ("data_parallel", "tensor_parallel")
    return init_device_mesh("cpu", (data_parallel, tensor_parallel), mesh_dim_names=names)


def check_sharding(rank: int) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    for sizes, divide_head in (((2, 1), False), ((1, 2), False), ((1, 2), True)):
        whole, network = Network(), Network()
        shard(network, mesh(*sizes), divide_head=divide_head)
        shard(network, mesh(*sizes))  # the second time nothing is done
        assert isinstance(network.head.weight, DTensor)
        rows = 3 if sizes == (1, 2) and not divide_head else 2 - rank
        assert len(network.head.weight.to_local()) == rows
        assert not is_divided(network.head)  # of which each rank gathers the output
        modules = [each for each in network.modules() if isinstance(each, FSDPModule)]
        assert modules == [network, *network.layers]
        assert all(isinstance(each, DTensor) for each in network.parameters())
        torch.testing.assert_close(network(x), whole(x))
        for each in (network, whole):
            each(x).square().sum().backward()
            clip_norm(each.parameters(), 0.1)
        # ranks have the same data, so that the mean over ranks is the gradient of each
        for sharded, parameter in zip(network.parameters(), whole.parameters(), strict=True):
            assert isinstance(sharded.grad, DTensor)
            torch.testing.assert_close(sharded.grad.full_tensor(), parameter.grad)


@pytest.mark.slow
def test_a_sharded_network_computes_and_clips_like_a_whole_one(tmp_path: Path) -> None:
    run_on_ranks(check_sharding, tmp_path)


def check_errors(rank: int) -> None:
    divided = mesh(1, 2)
    with pytest.raises(ValueError, match="tensor_parallel_size=2, but Linear has no tensor_p"):
        shard(nn.Linear(4, 4), divided)
    tied = Network()
    tied.embedding = nn.Embedding(3, 4)
    tied.embedding.weight = tied.head.weight
    with pytest.raises(ValueError, match="the head 'head' of Network is tied to its embedding"):
        shard(tied, divided, divide_head=True)
    headless = Network()
    del headless.tensor_parallel_plan["head"]
    with pytest.raises(ValueError, match="the plan of Network names no head; add the path"):
        shard(headless, divided, divide_head=True)
    network = Network()
    network.config = type("Config", (), {"num_attention_heads": 3})()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="2 does not divide num_attention_heads=3 of Network"):
        shard(network, divided)


@pytest.mark.slow
def test_a_network_that_cannot_be_divided_raises(tmp_path: Path) -> None:
    run_on_ranks(check_errors, tmp_path)


def test_layers_are_the_entries_of_the_outermost_lists() -> None:
    inner = nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(2, 2)])})
    blocks = nn.ModuleList([inner, nn.Linear(2, 2), nn.Dropout()])
    network = nn.ModuleDict({"body": nn.ModuleDict({"blocks": blocks}), "head": nn.Linear(2, 2)})
    assert layers(network) == [inner, blocks[1]]  # a layer without parameters is not sharded
    assert layers(nn.Linear(2, 2)) == []


def test_gradients_are_clipped_by_their_common_norm() -> None:
    first, second, third = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    clip_norm([first, second, third], 10.0)
    assert (first.grad.item(), second.grad.item()) == (3.0, 4.0)
    clip_norm([first, second, third], 1.0)
    assert [first.grad.item(), second.grad.item()] == pytest.approx([0.6, 0.8], rel=1e-5)
    assert third.grad is None
    clip_norm([], 1.0)
