"""One batch that is continued token by token, of which sequences leave when they are done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.rollouts.generation_settings import settings_of_a_call, uses_transformers

SEGMENT = 16
"""Number of tokens after which sequences that have ended leave the batch."""


def decode_batch(
    student: Any,
    prefixes: Sequence[Tensor],
    room: Sequence[int],
    *,
    end: Sequence[int],
    device: torch.device,
    synced_gpus: bool = False,
    **options: Any,
) -> list[Tensor]:
    """Return the new tokens of each sequence, on the CPU.

    Shorter prefixes are padded on the left. A step costs less for fewer sequences, so those that
    are done leave the batch, with their part of the key-value cache. That needs the usual cache of
    transformers; any other network generates until the last sequence is done, and so does one whose
    generation config has `kdlight.rollouts.generation_settings.settings_of_a_call`.

    Args:
        student: a network with the ``generate`` method of Hugging Face.
        prefixes: token ids (n,) of each sequence.
        room: maximal number of new tokens of each sequence, at least 1.
        end: ids of the tokens that end a text.
        device: the device of the student.
        synced_gpus: whether the student is sharded, so that all ranks call ``generate`` equally
            often.
        **options: further arguments of ``generate``, such as ``do_sample``.
    """
    ids, mask = pad_left(prefixes, end[0] if end else 0)
    ids, mask = ids.to(device), mask.to(device)
    width, most = ids.shape[1], max(room)
    given: dict[str, Any] = {
        "eos_token_id": list(end) or None,
        "pad_token_id": end[0] if end else 0,
    }
    is_known = uses_transformers(student)  # others may know the usual arguments only
    if is_known:
        given["num_return_sequences"] = 1
    in_segments = is_known and not synced_gpus and not settings_of_a_call(student)
    left = list(range(len(prefixes)))
    done: list[Tensor] = [torch.empty(0, dtype=torch.long)] * len(prefixes)
    cache: Any = None
    while left:
        made = ids.shape[1] - width
        steps = most - made
        if in_segments and len(left) > 1:
            soonest = min(room[i] for i in left) - made
            steps = min(soonest, SEGMENT) if end else soonest
        call = {**given, **options, "attention_mask": mask, "max_new_tokens": steps}
        if in_segments:
            call["return_dict_in_generate"] = True
        if synced_gpus:
            call["synced_gpus"] = True
        if cache is not None:
            call["past_key_values"] = cache
        out = student.generate(ids, use_cache=True, **call)
        ids = out if isinstance(out, Tensor) else out.sequences
        new = ids[:, width:].cpu()
        lengths = [_length(new[row], room[i], end) for row, i in enumerate(left)]
        stopped = new.shape[1] < made + steps  # all have ended, or for a reason of the model's own
        stays = [row for row, length in enumerate(lengths) if length is None and not stopped]
        for row, length in enumerate(lengths):
            if row not in stays:
                done[left[row]] = new[row, :length]
        cache = selected_cache(getattr(out, "past_key_values", None), stays, len(left))
        in_segments = in_segments and cache is not None
        left = [left[row] for row in stays]
        mask = torch.cat([mask, mask.new_ones(len(mask), ids.shape[1] - mask.shape[1])], 1)
        ids, mask = ids[stays], mask[stays]
    return done


def pad_left(prefixes: Sequence[Tensor], padding: int) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of sequences that end together.

    Example:
        >>> ids, mask = pad_left([torch.tensor([5]), torch.tensor([6, 7])], padding=0)
        >>> ids.tolist(), mask.tolist()
        ([[0, 5], [6, 7]], [[0, 1], [1, 1]])
    """
    longest = max(map(len, prefixes))
    ids = torch.full((len(prefixes), longest), padding)
    mask = torch.zeros_like(ids)
    for i, prefix in enumerate(prefixes):
        ids[i, longest - len(prefix) :] = prefix
        mask[i, longest - len(prefix) :] = 1
    return ids, mask


def selected_cache(cache: Any, rows: Sequence[int], number: int) -> Any:
    """Return the cache of some of the sequences; None for a cache of which this is not known."""
    from transformers import DynamicCache

    layers = getattr(cache, "layers", ())
    if type(cache) is not DynamicCache or {type(each).__name__ for each in layers} != {
        "DynamicLayer"
    }:
        return None
    if len(rows) < number:
        cache.batch_select_indices(torch.tensor(rows, dtype=torch.long))
    return cache


def _length(new: Tensor, room: int, end: Sequence[int]) -> int | None:
    """Return the length of a continuation; None if it is not done."""
    ends = torch.isin(new, torch.tensor(end, dtype=new.dtype)).nonzero()
    length = int(ends[0]) + 1 if len(ends) else len(new)
    return min(length, room) if len(ends) or len(new) >= room else None
