"""Models whose logits depend on the padding before a sequence, though its mask marks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlight.features import not_captured
from kdlight.models.call_network import call_network
from kdlight.models.evaluating import evaluating

TOLERANCE = 5e-2
"""Difference of logits, relative to their size, that half precision does not explain."""


def warn_about_left_padding(network: Any, batch: Any) -> None:
    """Warn if the logits of a padded row of ``batch`` are others than those without the padding.

    Recurrent models such as RWKV ignore the mask and read the padding. Encoder-decoders count
    positions from the first entry, padding or not.

    Args:
        network: a network, from a batch to logits.
        batch: its first row that begins with padding is evaluated, with it and without it.

    Example:
        >>> warn_about_left_padding(torch.nn.Linear(2, 3), torch.zeros(1, 2))
    """
    difference = left_padding_difference(network, batch)
    if not difference <= TOLERANCE:
        # Lightning takes seconds to import
        from lightning.pytorch.utilities import rank_zero_warn

        rank_zero_warn(
            f"kdlight: logits of {type(network).__name__} depend on the padding at the left of a"
            f" sequence, which 'attention_mask' marks (by {difference:.2g} of their size): the"
            " model reads it. Pad on the right"
        )


@torch.no_grad()
def left_padding_difference(network: Any, batch: Any) -> float:
    """Return the largest difference of logits, relative to the largest; 0 without such a row."""
    rows = _first_padded_row(batch)
    if rows is None:
        return 0.0
    padded, alone = rows
    length = alone["attention_mask"].shape[1]
    with evaluating(network), not_captured():
        got, expected = (call_network(network, each) for each in rows)
        if got.shape[:2] == padded["attention_mask"].shape:  # the last one, after all others
            last = torch.tensor([length - 1], device=got.device)
            got = got.select(last + got.shape[1] - length)
            expected = expected.select(last)
        if got.shape != expected.shape:
            return 0.0
        got, expected = got.logits().float(), expected.logits().float()
    return ((got - expected).abs().max() / expected.abs().max().clamp(min=1e-6)).item()


def _first_padded_row(batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Return a row that begins with padding, and the same one from its first token to its last."""
    if not isinstance(batch, Mapping):
        return None
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    mask, ids = tensors.get("attention_mask"), tensors.get("input_ids")
    if mask is None or ids is None or mask.dim() != 2 or mask.shape != ids.shape:
        return None
    if any(value.dim() == 0 or len(value) != len(ids) for value in tensors.values()):
        return None  # rows cannot be told apart
    found = ((mask[:, 0] == 0) & (mask[:, -1] != 0)).nonzero()
    if not len(found):
        return None
    row = int(found[0])
    first = int(mask[row].nonzero()[0])
    padded = {name: value[row : row + 1] for name, value in tensors.items()}
    alone = {
        name: value[:, first:] if value.shape[:2] == (1, ids.shape[1]) else value
        for name, value in padded.items()
    }
    return padded, alone
