"""Sequences of several lengths as batches, padded at their ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def plan_batches(lengths: Sequence[int], limit: int, *, padded: bool) -> list[list[int]]:
    """Return the numbers of the sequences of each batch, by length.

    Args:
        lengths: the length of each sequence.
        limit: largest number of positions of a batch, padding included; a longer sequence is a
            batch of its own.
        padded: whether sequences of different lengths may stand in one batch.

    Example:
        >>> plan_batches([3, 9, 4, 4], 8, padded=True)
        [[0, 2], [3], [1]]
        >>> plan_batches([3, 9, 4, 4], 8, padded=False)
        [[0], [2, 3], [1]]
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = batches[-1] if batches else []
        fits = bool(last) and lengths[number] * (len(last) + 1) <= limit
        if fits and (padded or lengths[last[0]] == lengths[number]):
            last.append(number)
        else:
            batches.append([number])
    return batches


def pad(sequences: Sequence[list[int]], device: torch.device) -> dict[str, Tensor]:
    """Return a batch of token ids ``(B, T)``, with a mask where there is padding.

    Example:
        >>> pad([[5, 6], [7]], torch.device("cpu"))["input_ids"]
        tensor([[5, 6],
                [7, 0]])
    """
    width = max(map(len, sequences))
    rows = [[*tokens, *[0] * (width - len(tokens))] for tokens in sequences]
    batch = {"input_ids": torch.tensor(rows, device=device)}
    if min(map(len, sequences)) < width:
        marks = [[1] * len(each) + [0] * (width - len(each)) for each in sequences]
        batch["attention_mask"] = torch.tensor(marks, device=device)
    return batch


def row_positions(sequences: Sequence[list[int]]) -> list[Tensor]:
    """Return the numbers of each sequence's tokens among the flattened positions of `pad`.

    Example:
        >>> row_positions([[5, 6], [7]])
        [tensor([0, 1]), tensor([2])]
    """
    width = max(map(len, sequences))
    return [row * width + torch.arange(len(each)) for row, each in enumerate(sequences)]
