"""Bytes that a rank will hold, by what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdlight.distributed.sharding import layers as layers_of
from kdlight.doctor.logits import LogitsBytes
from kdlight.doctor.setting import Setting
from kdlight.doctor.sharing import Sharing
from kdlight.modules import StandaloneModule
from kdlight.teachers import frozen_teachers


@dataclass(frozen=True)
class Row:
    """One line of the account.

    Attributes:
        name: what it is.
        bytes: of one rank; None where it is not known.
        note: where the number is from.
        alternative: what the line would be, were it done the other way; not added up.
    """

    name: str
    bytes: int | None
    note: str = ""
    alternative: bool = False


def weight_rows(
    module: StandaloneModule, sharing: Sharing, setting: Setting, *, state: int | None
) -> list[Row]:
    """Weights, gradients and optimizer state; ``state`` is the bytes of the whole of it."""
    half = torch.bfloat16 if sharing.masters else setting.held_in
    trained = [p for p in module.parameters() if p.requires_grad]
    frozen = [p for p in module.parameters() if not p.requires_grad]
    frozen += [b for b in module.buffers() if isinstance(b, Tensor)]
    gradients = nbytes(trained, half)
    rows = [
        Row("weights, trained", gradients // sharing.weights, _share(sharing.weights)),
        Row("weights, frozen, and buffers", nbytes(frozen, half) // sharing.weights),
        Row("gradients", gradients // sharing.gradients, _share(sharing.gradients)),
    ]
    if sharing.buckets and setting.ranks > 1:
        rows.append(Row("gradients, in DDP's buckets", gradients))
    if sharing.masters:
        masters = nbytes(trained, torch.float32) // sharing.optimizer
        rows.append(Row("weights, again in float32", masters, _share(sharing.optimizer)))
    kept = None if state is None else state // sharing.optimizer
    rows.append(Row("optimizer state", kept, _share(sharing.optimizer)))
    if sharing.gathers and setting.ranks > 1:
        rows.append(Row("student, gathered to be used", _gathered(module.student, half)))
    return rows


def teacher_rows(module: StandaloneModule, sharing: Sharing, device: torch.device) -> Iterator[Row]:
    """The weights of live teachers, and what one that is read from disk holds in memory."""
    live = [each for each in frozen_teachers(module.teacher) if each.networks()]
    for each in live:
        tensors = [*each.model.parameters(), *each.model.buffers()]
        parts = sharing.teacher if each.shard else 1
        elsewhere = each.device is not None and each.device.type != device.type
        notes = [", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in tensors}))]
        notes += [_share(parts)] if parts > 1 else []
        notes += [f"{size(nbytes(tensors))} on {each.device} instead"] if elsewhere else []
        held = 0 if elsewhere else nbytes(tensors) // parts
        yield Row("teacher, weights", held, ", ".join(notes))
        if parts > 1:
            yield Row("teacher, gathered to be used", _gathered(each.model))
    if module.teacher is not None and not live:
        folder = getattr(module.teacher, "path", None)  # of a cache
        note = "no live network" if folder is None else f"{size(_on_disk(folder))} in {folder}"
        yield Row(f"teacher, {type(module.teacher).__name__}", 0, note)


def step_rows(activations: int | None, logits: LogitsBytes | None) -> list[Row]:
    """What one micro-batch takes: activations, and logits as they will be made."""
    rows = [Row("activations (estimate)", activations, "kept for the backward pass")]
    if logits is None:
        return [*rows, Row("logits", None)]
    for side, dense, chunked in (
        ("student", logits.student, logits.student_chunked),
        ("teacher", logits.teacher, logits.teacher_chunked),
    ):
        if not dense:
            continue
        and_more = " and their gradient" if side == "student" else ""
        all_at_once = f"all positions at once{and_more}"
        if chunked is None:
            rows.append(Row(f"logits of the {side}", dense, all_at_once))
            continue
        in_chunks = f"{logits.tokens} positions at once"
        rows += [
            Row(f"logits of the {side}, dense", dense, all_at_once, logits.in_chunks),
            Row(f"logits of the {side}, chunked", chunked, in_chunks, not logits.in_chunks),
        ]
    return rows


def total(rows: Iterable[Row]) -> int:
    """What rows come to, as far as they are known."""
    return sum(row.bytes or 0 for row in rows if not row.alternative)


def nbytes(tensors: Iterable[Tensor], held_in: torch.dtype | None = None) -> int:
    """Bytes of tensors, each counted once, floating-point ones as they would be in ``held_in``."""
    count = 0
    for tensor in {id(each): each for each in tensors}.values():
        dtype = held_in if held_in and tensor.is_floating_point() else tensor.dtype
        count += tensor.numel() * dtype.itemsize
    return count


def size(count: int) -> str:
    """Bytes for people.

    Example:
        >>> size(123), size(5 * 2**20)
        ('123 B', '5.0 MiB')
    """
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def _gathered(network: nn.Module, held_in: torch.dtype | None = None) -> int:
    """The root and the largest layer, whole: see `kdlight.distributed.sharding.shard`."""
    layers = [list(layer.parameters()) for layer in layers_of(network)]
    inside = {id(p) for layer in layers for p in layer}
    root = [p for p in network.parameters() if id(p) not in inside]
    return nbytes(root, held_in) + max((nbytes(layer, held_in) for layer in layers), default=0)


def _on_disk(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _share(parts: int) -> str:
    return f"1/{parts} of it" if parts > 1 else ""
