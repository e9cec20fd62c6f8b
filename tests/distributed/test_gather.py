"""Rows gathered from all ranks: different numbers of rows, all dtypes, a graph on one rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from kdlight.distributed import exchange_sizes, gather_rows, gather_source
from kdlight.sources import Dense, Projected
from tests.support.gloo import run_on_ranks

ROWS = {0: 2, 1: 0, 2: 3}  # by rank
CPU = torch.device("cpu")


def rows_of(rank: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.arange(ROWS[rank] * 5).view(-1, 5) + 100 * rank).to(dtype)


def check_gathering(rank: int) -> None:
    (sizes, others) = exchange_sizes([ROWS[rank], rank], CPU)
    assert sizes.counts == tuple(ROWS.values())
    assert others.counts == (0, 1, 2)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        own = rows_of(rank, dtype).requires_grad_()
        gathered = gather_rows(own, sizes)
        torch.testing.assert_close(gathered, torch.cat([rows_of(each, dtype) for each in ROWS]))
        torch.testing.assert_close(gathered[sizes.own], own)
        gathered.sum().backward()  # on a rank without rows, too
        torch.testing.assert_close(own.grad, torch.ones_like(own))
    head = torch.nn.Linear(5, 2)
    source = gather_source(Projected(rows_of(rank), head), sizes)
    assert isinstance(source, Projected)
    assert (source.head is head, source.hidden.shape) == (True, (5, 5))
    (empty,) = exchange_sizes([0], CPU)
    assert gather_rows(rows_of(1), empty).shape == (0, 5)
    groups: Any = [dist.new_group([0, 2]), dist.new_group([1])]
    (sizes,) = exchange_sizes([ROWS[rank]], CPU, group=groups[rank % 2])
    assert sizes.counts == ((2, 3) if rank != 1 else (0,))
    assert gather_rows(rows_of(rank), sizes).shape == (sizes.total, 5)


@pytest.mark.slow
def test_rows_are_gathered_in_the_order_of_ranks(tmp_path: Path) -> None:
    run_on_ranks(check_gathering, tmp_path, ranks=len(ROWS))


def test_a_single_process_copies_nothing() -> None:
    rows = rows_of(0).requires_grad_()
    (sizes,) = exchange_sizes([2], CPU)
    assert (sizes.total, sizes.own) == (2, slice(0, 2))
    assert gather_rows(rows, sizes) is rows
    source = gather_source(Dense(rows), sizes)
    assert source.logits().data_ptr() == rows.data_ptr()
    assert not source.logits().requires_grad
