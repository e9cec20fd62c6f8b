"""What data-parallel ranks exchange."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torchmetrics import MeanMetric

from kdlight.distributed import ranks, sum_over_ranks
from tests.support.gloo import run_on_ranks

RANKS = 4


def trainer(*, data_parallel: int | None = None) -> Any:
    """A trainer of all ranks; with ``data_parallel``, under FSDP2 with tensor-parallel ranks."""
    size = dist.get_world_size() if dist.is_initialized() else 1
    strategy: Any = SimpleNamespace(root_device=torch.device("cpu"), all_gather=_all_gather)
    if data_parallel is not None:
        strategy = ModelParallelStrategy.__new__(ModelParallelStrategy)
        strategy._device_mesh = init_device_mesh(
            "cpu",
            (data_parallel, size // data_parallel),
            mesh_dim_names=("data_parallel", "tensor_parallel"),
        )
        strategy.__class__ = _OnCPU
    return SimpleNamespace(world_size=size, strategy=strategy)


class _OnCPU(ModelParallelStrategy):
    root_device = torch.device("cpu")  # type: ignore[assignment]


def _all_gather(value: Tensor) -> Tensor:
    gathered = [torch.zeros_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, value)
    return torch.stack(gathered)


def check_sums(rank: int) -> None:
    values = torch.tensor([rank, 1.0], dtype=torch.float64)
    assert sum_over_ranks(values).tolist() == [6.0, 4.0]
    assert values.tolist() == [rank, 1.0]  # a copy is reduced
    groups = [dist.new_group([0, 3]), dist.new_group([1, 2])]
    group: Any = groups[0 if rank in (0, 3) else 1]
    assert sum_over_ranks(values, group).tolist() == [3.0, 2.0]
    alone: Any = [dist.new_group([each]) for each in range(RANKS)][rank]
    assert sum_over_ranks(values, alone) is values
    assert ranks.data_parallel_sum(trainer(), values).tolist() == [6.0, 4.0]
    assert ranks.row_group(None) is None
    assert ranks.row_group(trainer(data_parallel=RANKS).strategy.device_mesh) is None
    rows = ranks.row_group(trainer(data_parallel=2).strategy.device_mesh)
    assert rows is not None
    assert dist.get_process_group_ranks(rows) == [rank // 2 * 2, rank // 2 * 2 + 1]
    assert ranks.gather_numbers(trainer(), rank / 2) == [0.0, 0.5, 1.0, 1.5]


def check_tensor_parallel_ranks_count_once(rank: int) -> None:
    run = trainer(data_parallel=2)  # ranks 0 and 1 have the same data, as have 2 and 3
    assert ranks.data_parallel_size(run) == 2
    own, other = rank, rank + 2 if rank < 2 else rank - 2
    total = ranks.data_parallel_sum(run, torch.tensor(float(rank)))
    assert total.item() == own + other
    metric = MeanMetric()
    ranks.reduce_over_data_parallel_ranks(run, nn.ModuleList([metric, nn.Linear(1, 1)]))
    assert metric.process_group is ranks.data_parallel_group(run)
    metric.update(float(rank))
    assert metric.compute().item() == (own + other) / 2


def check_gradients_and_values(rank: int) -> None:
    with_gradient, without, frozen = (
        nn.Parameter(torch.full((2,), float(rank)), requires_grad=each)
        for each in (True, True, False)
    )
    with_gradient.grad = torch.full((2,), float(rank))
    if rank == 1:
        without.grad = torch.ones(2)
    parameters = [with_gradient, without, frozen]
    ranks.average_gradients(trainer(), parameters)
    assert with_gradient.grad.tolist() == [1.5, 1.5]
    assert without.grad is not None
    assert without.grad.tolist() == [0.25, 0.25]  # ranks without a gradient contribute zeros
    assert frozen.grad is None
    ranks.copy_from_first_rank(trainer(), parameters)
    assert all(each.tolist() == [0.0, 0.0] for each in parameters)


def check_all(rank: int) -> None:
    check_sums(rank)
    check_tensor_parallel_ranks_count_once(rank)
    check_gradients_and_values(rank)


@pytest.mark.slow
def test_ranks_exchange_sums_gradients_and_values(tmp_path: Path) -> None:
    run_on_ranks(check_all, tmp_path, ranks=RANKS)


def test_a_single_process_exchanges_nothing() -> None:
    values, parameter = torch.tensor([1.0, 2.0]), nn.Parameter(torch.ones(2))
    assert sum_over_ranks(values) is values
    assert ranks.data_parallel_sum(trainer(), values) is values
    assert ranks.data_parallel_size(trainer()) == 1
    assert ranks.data_parallel_group(trainer()) is None
    assert ranks.gather_numbers(trainer(), 2.0) == [2.0]
    ranks.average_gradients(trainer(), [parameter])
    ranks.copy_from_first_rank(trainer(), [parameter])
    assert parameter.grad is None
    metric = MeanMetric()
    ranks.reduce_over_data_parallel_ranks(trainer(), nn.ModuleList([metric]))
    assert metric.process_group is None
