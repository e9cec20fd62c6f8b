"""The memory of a rank, as rows of a table: weights, gradients, optimizer state, logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlight.distributed.sharding import layers
from kdlight.doctor.byte_sizes import folder_bytes, format_bytes, tensor_bytes
from kdlight.doctor.logits_bytes import LogitsBytes
from kdlight.doctor.module_parts import student_part
from kdlight.doctor.run_environment import RunEnvironment
from kdlight.doctor.shard_factors import ShardFactors
from kdlight.modules.base import DistillationBase
from kdlight.teachers import frozen_teachers


@dataclass(frozen=True)
class MemoryRow:
    """One row of the table.

    Attributes:
        name: what is stored.
        bytes: bytes on one rank; None if unknown.
        note: how the number is obtained.
        alternative: whether this is the size of a variant that is not used, which does not count.
    """

    name: str
    bytes: int | None
    note: str = ""
    alternative: bool = False


def weight_rows(
    module: DistillationBase,
    factors: ShardFactors,
    environment: RunEnvironment,
    *,
    state: int | None,
) -> list[MemoryRow]:
    """Return rows of weights, gradients and optimizer state.

    Args:
        module: the module to be trained.
        factors: the number of shards of each.
        environment: the strategy, ranks and precision of the run.
        state: bytes of the unsharded optimizer state; None if unknown.
    """
    dtype = torch.bfloat16 if factors.master_weights else environment.weight_dtype
    trained = [p for p in module.parameters() if p.requires_grad]
    frozen = [p for p in module.parameters() if not p.requires_grad]
    frozen += [b for b in module.buffers() if isinstance(b, Tensor)]
    size, frozen_size = tensor_bytes(trained, dtype), tensor_bytes(frozen, dtype)
    rows = [
        MemoryRow("weights, trained", size // factors.weights, _share(factors.weights)),
        MemoryRow("weights, frozen, and buffers", frozen_size // factors.weights),
        MemoryRow("gradients", size // factors.gradients, _share(factors.gradients)),
    ]
    if factors.ddp_buckets and environment.ranks > 1:
        rows.append(MemoryRow("gradients, in DDP's buckets", size))
    if factors.master_weights:
        masters = tensor_bytes(trained, torch.float32) // factors.optimizer
        rows.append(MemoryRow("weights, again in float32", masters, _share(factors.optimizer)))
    kept = None if state is None else state // factors.optimizer
    rows.append(MemoryRow("optimizer state", kept, _share(factors.optimizer)))
    if factors.gathers_layers and environment.ranks > 1:
        rows.append(
            MemoryRow("student, gathered to be used", _gathered(student_part(module), dtype))
        )
    return rows


def teacher_rows(
    module: DistillationBase, factors: ShardFactors, device: torch.device
) -> Iterator[MemoryRow]:
    """Yield rows of the weights of live teachers, and of a teacher that is read from disk."""
    live = [each for each in frozen_teachers(module.teacher) if each.networks()]
    for teacher in live:
        tensors = [*teacher.model.parameters(), *teacher.model.buffers()]
        shards = factors.teacher if teacher.shard else 1
        offloaded = teacher.device is not None and teacher.device.type != device.type
        dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})
        notes = [", ".join(dtypes)]
        if shards > 1:
            notes.append(_share(shards))
        if offloaded:
            notes.append(f"{format_bytes(tensor_bytes(tensors))} on {teacher.device} instead")
        size = 0 if offloaded else tensor_bytes(tensors) // shards
        yield MemoryRow("teacher, weights", size, ", ".join(notes))
        if shards > 1:
            yield MemoryRow("teacher, gathered to be used", _gathered(teacher.model))
    if module.teacher is not None and not live:
        folder = getattr(module.teacher, "path", None)  # of a cache
        stored = "" if folder is None else f"{format_bytes(folder_bytes(folder))} in {folder}"
        name = f"teacher, {type(module.teacher).__name__}"
        yield MemoryRow(name, 0, stored or "no live network")


def step_rows(activations: int | None, logits: LogitsBytes | None) -> list[MemoryRow]:
    """Return rows of one micro-batch: activations, and logits both dense and in chunks."""
    rows = [MemoryRow("activations (estimate)", activations, "kept for the backward pass")]
    if logits is None:
        return [*rows, MemoryRow("logits", None)]
    for side, dense, chunked in (
        ("student", logits.student, logits.student_chunked),
        ("teacher", logits.teacher, logits.teacher_chunked),
    ):
        if not dense:
            continue
        gradient = " and their gradient" if side == "student" else ""
        dense_note = f"all positions at once{gradient}"
        if chunked is None:
            rows.append(MemoryRow(f"logits of the {side}", dense, dense_note))
            continue
        chunk_note, in_chunks = f"{logits.tokens} positions at once", logits.in_chunks
        rows += [
            MemoryRow(f"logits of the {side}, dense", dense, dense_note, in_chunks),
            MemoryRow(f"logits of the {side}, chunked", chunked, chunk_note, not in_chunks),
        ]
    return rows


def total_bytes(rows: Iterable[MemoryRow]) -> int:
    """Return the sum of the known bytes of rows, without alternatives."""
    return sum(row.bytes or 0 for row in rows if not row.alternative)


def _gathered(network: nn.Module, dtype: torch.dtype | None = None) -> int:
    """Return the bytes of the root and the largest layer, see `kdlight.distributed.sharding`."""
    layer_parameters = [list(layer.parameters()) for layer in layers(network)]
    inside = {id(p) for parameters in layer_parameters for p in parameters}
    root = [p for p in network.parameters() if id(p) not in inside]
    largest = max((tensor_bytes(each, dtype) for each in layer_parameters), default=0)
    return tensor_bytes(root, dtype) + largest


def _share(shards: int) -> str:
    return f"1/{shards} of it" if shards > 1 else ""
