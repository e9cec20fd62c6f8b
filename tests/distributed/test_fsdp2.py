"""FSDP2Strategy divides the ranks of a run; fits with it are in test_strategies.py."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.strategies import ModelParallelStrategy

from kdlight.distributed import FSDP2Strategy


@pytest.fixture
def strategy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets up a strategy for some ranks, without starting them."""
    monkeypatch.setattr(ModelParallelStrategy, "setup_environment", lambda self: None)

    def set_up(tensor_parallel_size: int, *, devices: int, nodes: int = 1) -> FSDP2Strategy:
        strategy = FSDP2Strategy(tensor_parallel_size)
        strategy.parallel_devices = [None] * devices  # type: ignore[list-item]
        strategy.num_nodes = nodes
        strategy.setup_environment()
        return strategy

    return set_up


@pytest.mark.parametrize(
    ("tensor_parallel", "devices", "nodes", "data_parallel"),
    [(1, 4, 1, 4), (2, 4, 1, 2), (4, 4, 1, 1), (2, 4, 3, 6)],
)
def test_ranks_are_data_parallel_unless_they_are_tensor_parallel(
    strategy: Any,
    tensor_parallel: int,
    devices: int,
    nodes: int,
    data_parallel: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    divided = strategy(tensor_parallel, devices=devices, nodes=nodes)
    assert divided._data_parallel_size == data_parallel
    assert divided._tensor_parallel_size == tensor_parallel


@pytest.mark.parametrize("size", [0, -1, 3])
def test_a_size_that_does_not_divide_the_ranks_raises(strategy: Any, size: int) -> None:
    why = rf"tensor_parallel_size={size} does not divide the 4 ranks .*1 nodes with 4 devices each"
    with pytest.raises(ValueError, match=why):
        strategy(size, devices=4)


def test_one_rank_has_no_other_to_divide_a_head_with() -> None:
    with pytest.raises(ValueError, match=r"divide_head=True .* but tensor_parallel_size=1; set it"):
        FSDP2Strategy(divide_head=True)
    assert FSDP2Strategy(2, divide_head=True).divide_head
    assert not FSDP2Strategy(2).divide_head


def test_tensor_parallel_ranks_need_a_seed(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    strategy(1, devices=4)
    with pytest.raises(ValueError, match="set seed_everything in the config"):
        strategy(2, devices=4)
