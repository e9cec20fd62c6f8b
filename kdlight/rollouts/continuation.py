"""Continue sequences of different lengths in one call of ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, all_reduce, is_initialized

from kdlight.models.context import context_length
from kdlight.rollouts.decoding import decode_batch
from kdlight.rollouts.room import room_in_context


def continue_text(
    student: Any,
    prefixes: Sequence[Tensor],
    room: Sequence[int],
    *,
    end: Sequence[int],
    device: torch.device,
    synced_gpus: bool = False,
    **options: Any,
) -> list[Tensor]:
    """Continue each prefix by at most ``room`` tokens, with the key-value cache of the student.

    Shorter prefixes are padded on the left. A continuation ends with the first end token, or where
    the context of the student ends.

    Args:
        student: a network with the ``generate`` method of Hugging Face.
        prefixes: token ids (n,) of each sequence.
        room: maximal number of new tokens of each sequence.
        end: ids of the tokens that end a text.
        device: the device of the student.
        synced_gpus: whether the student is sharded, so that all ranks generate equally often.
        **options: further arguments of ``generate``, such as ``do_sample``.

    Returns:
        Each prefix with its continuation, on the CPU.
    """
    context = context_length(student)
    room = room_in_context(prefixes, room, context)
    groups = _group([len(prefix) for prefix in prefixes], room, context)
    texts = list(prefixes)
    for group in [
        *groups,
        *[[]] * (_most_on_any_rank(len(groups), device, synced_gpus) - len(groups)),
    ]:
        new = decode_batch(
            student,
            [prefixes[i] for i in group] or [torch.zeros(1, dtype=torch.long)],
            [room[i] for i in group] or [1],
            end=end,
            device=device,
            synced_gpus=synced_gpus,
            **options,
        )
        for i, ids in zip(group, new, strict=False):
            texts[i] = torch.cat([prefixes[i], ids])
    return texts


def _group(lengths: Sequence[int], room: Sequence[int], context: int | None) -> list[list[int]]:
    """Return the sequences to continue in each call, so that none of them leaves the context.

    In one call there is room for as many tokens as the sequence with the most room gets.
    """
    indices = [i for i, most in enumerate(room) if most > 0]
    if not indices or context is None or _width(indices, lengths, room) <= context:
        return [indices] if indices else []
    groups: list[list[int]] = []
    for i in sorted(indices, key=lambda i: (lengths[i], room[i])):
        if groups and _width([*groups[-1], i], lengths, room) <= context:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _width(indices: Sequence[int], lengths: Sequence[int], room: Sequence[int]) -> int:
    return max(lengths[i] for i in indices) + max(room[i] for i in indices)


def _most_on_any_rank(number: int, device: torch.device, synced: bool) -> int:
    if not (synced and is_initialized()):
        return number
    most = torch.tensor(number, device=device)
    all_reduce(most, ReduceOp.MAX)
    return int(most)
