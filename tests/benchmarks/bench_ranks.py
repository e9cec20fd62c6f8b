"""The head's part of a step on two tensor-parallel ranks: whole, rows divided, vocabulary divided.

``python tests/benchmarks/bench_ranks.py``. From hidden states and heads of student and teacher to
the loss and the gradients of hidden states and head. Ranks are processes of one thread each that
use gloo, on one machine: set ``--tokens`` and ``--vocabulary`` for other sizes. Time is the median
of interleaved runs; memory is what a run adds at its peak, without the head, which is listed apart.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.multiprocessing.spawn import spawn

from kdlight import LossInputs, Projected
from kdlight.objectives import OBJECTIVES, build_objective
from tests.benchmarks.memory import extra_mib

WAYS = ("whole", "rows divided", "vocabulary divided")
WIDTHS = (256, 512)  # of student and teacher


def make_heads(vocabulary: int, mesh: DeviceMesh) -> dict[str, nn.Linear]:
    heads = {}
    for way in WAYS:
        torch.manual_seed(0)
        heads[way] = nn.Linear(WIDTHS[0], vocabulary, bias=False)
    style = ColwiseParallel(output_layouts=Replicate())
    parallelize_module(heads["vocabulary divided"], mesh, style)
    return heads


def run(
    way: str, objective: Any, states: list[Tensor], heads: dict[str, nn.Linear], mesh: Any
) -> tuple[Tensor, ...]:
    """Compute the loss and its gradients; return the gradients of hidden states and head."""
    hidden = states[0].detach().requires_grad_()
    group = None if way == "whole" else mesh.get_group()
    labels = torch.zeros(len(hidden), dtype=torch.long)
    teacher = Projected(states[1], heads["teacher"])
    inputs = LossInputs(
        Projected(hidden, heads[way]), teacher, labels, chunked=True, row_group=group
    )
    return torch.autograd.grad(objective(inputs).total, [hidden, heads[way].weight])


def on_rank(rank: int, folder: str, options: argparse.Namespace, memory_of: str | None) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=options.ranks)
    mesh = init_device_mesh("cpu", (options.ranks,), mesh_dim_names=("tensor_parallel",))
    objective = build_objective(options.objective)
    heads = make_heads(options.vocabulary, mesh)
    torch.manual_seed(1)
    heads["teacher"] = nn.Linear(WIDTHS[1], options.vocabulary, bias=False).requires_grad_(False)
    states = [torch.randn(options.tokens, width) for width in WIDTHS]
    rest = (objective, states, heads, mesh)
    if memory_of is not None:
        peak = extra_mib(lambda: run(memory_of, *rest), "cpu")
        if rank == 0:
            Path(folder, "peak").write_text(str(peak))
    else:
        _measure_time(rank, options, rest)
    dist.destroy_process_group()


def _measure_time(rank: int, options: argparse.Namespace, rest: Any) -> None:
    expected = run(WAYS[0], *rest)  # also a warm-up
    for way in WAYS[1:]:
        for one, other in zip(run(way, *rest), expected, strict=True):
            whole = one.full_tensor() if isinstance(one, DTensor) else one
            torch.testing.assert_close(whole, other, rtol=1e-3, atol=1e-5)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            dist.barrier()
            start = time.perf_counter()
            run(way, *rest)
            dist.barrier()
            times[way].append(time.perf_counter() - start)
    if rank == 0:
        medians = {way: median(each) for way, each in times.items()}
        for way, seconds in medians.items():
            print(f"{way:20} {seconds:8.3f} s  {seconds / medians[WAYS[0]]:6.2f} of whole")


def main() -> None:
    parser = argparse.ArgumentParser(description="the head on tensor-parallel ranks")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="forward_kl")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.objective}, {options.tokens} x {options.vocabulary}, {options.ranks} ranks")
    with TemporaryDirectory() as folder:
        spawn(on_rank, (folder, options, None), nprocs=options.ranks)
    for way in WAYS:
        with TemporaryDirectory() as folder:
            spawn(on_rank, (folder, options, way), nprocs=options.ranks)
            share = options.ranks if way == "vocabulary divided" else 1
            size = 4 * WIDTHS[0] * options.vocabulary / share / 2**20
            peak = float(Path(folder, "peak").read_text())
            print(f"{way:20} {peak:8.0f} MiB at its peak, head {size:.0f} MiB")


if __name__ == "__main__":
    main()
