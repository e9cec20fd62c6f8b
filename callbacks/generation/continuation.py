"""Continue sequences of different lengths in one call of ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def continue_text(
    student: Any,
    prefixes: Sequence[Tensor],
    room: Sequence[int],
    *,
    end: Sequence[int],
    device: torch.device,
    **options: Any,
) -> list[Tensor]:
    """Continue each prefix by at most ``room`` tokens, with the key-value cache of the student.

    Shorter prefixes are padded on the left. A continuation ends with the first end token.

    Args:
        student: a network with the ``generate`` method of Hugging Face.
        prefixes: token ids (n,) of each sequence.
        room: maximal number of new tokens of each sequence.
        end: ids of the tokens that end a text.
        device: the device of the student.
        **options: further arguments of ``generate``, such as ``do_sample``.

    Returns:
        Each prefix with its continuation, on the CPU.
    """
    padding = end[0] if end else 0
    longest = max(map(len, prefixes))
    ids = torch.full((len(prefixes), longest), padding)
    mask = torch.zeros_like(ids)
    for i, prefix in enumerate(prefixes):
        ids[i, longest - len(prefix) :] = prefix
        mask[i, longest - len(prefix) :] = 1
    out = student.generate(
        ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=max(room),
        eos_token_id=list(end) or None,
        pad_token_id=padding,
        use_cache=True,
        **options,
    )
    texts = []
    for prefix, new, most in zip(prefixes, out[:, longest:].cpu(), room, strict=True):
        ends = torch.isin(new, torch.tensor(end, dtype=new.dtype)).nonzero()
        length = min(most, int(ends[0]) + 1 if len(ends) else len(new))
        texts.append(torch.cat([prefix, new[:length]]))
    return texts
