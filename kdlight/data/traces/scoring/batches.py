"""Rows of token ids in batches of similar length, and the logits of a network on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kdlight.checks import check_integer
from kdlight.models.call_network import call_network
from kdlight.sources import LogitsSource


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return the numbers of rows in batches of rows of similar length, the longest rows first.

    A batch that does not fit into memory is then found at once.

    Args:
        lengths: the length of each row.
        batch_size: number of rows in a batch; the last batch may have fewer.

    Raises:
        TypeError: If ``batch_size`` is no integer.
        ValueError: If ``batch_size`` is below 1.

    Example:
        >>> batches_by_length([5, 9, 7], batch_size=2)
        [[1, 2], [0]]
    """
    check_integer("batch_size", batch_size, 1)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def batch_logits(network: Any, rows: Sequence[Sequence[int]]) -> LogitsSource:
    """Return the logits of a network on rows of token ids, padded at their ends, ``(B, T, V)``.

    Args:
        network: a Hugging Face causal language model, or a `kdlight.CausalLM`.
        rows: token ids.

    Raises:
        ValueError: If a token is outside the vocabulary of the network, or the network does not
            give logits at each position.
    """
    longest, vocabulary = max(map(len, rows)), _vocabulary(network)
    largest = max(map(max, rows))
    if vocabulary is not None and largest >= vocabulary:
        raise ValueError(
            f"the tokenizer gives the token {largest}, but the model has {vocabulary} tokens; use"
            " the tokenizer of the model"
        )
    device = next(network.parameters()).device
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor(
        [[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device
    )
    source = call_network(network, {"input_ids": ids, "attention_mask": mask})
    if source.shape[:-1] != ids.shape:
        raise ValueError(
            f"{type(network).__name__} gives logits of shape {tuple(source.shape)} on"
            f" {tuple(ids.shape)} tokens; it must be a causal language model, with logits at each"
            " token"
        )
    return source


def _vocabulary(network: Any) -> int | None:
    """Return the number of tokens that a network can read; None if it does not tell."""
    inner: Any = getattr(network, "model", None)
    model = network if hasattr(network, "get_input_embeddings") else inner
    if not hasattr(model, "get_input_embeddings"):
        return None
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return None if weight is None else weight.shape[0]
