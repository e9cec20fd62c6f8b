"""A fixed text that two copies of a model score, to see whether they have the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kdlight.models.call_network import call_network
from kdlight.models.context import context_length
from kdlight.models.evaluating import evaluating
from kdlight.rollouts.writer import Writer

LENGTH = 32
"""Number of tokens of the text."""

GOLDEN = (5**0.5 - 1) / 2


def probe_ids(vocab_size: int, length: int = LENGTH) -> list[int]:
    """Return token ids that are spread over a vocabulary, the same in every process.

    Example:
        >>> probe_ids(100, length=5)
        [61, 23, 85, 47, 9]
    """
    return [int((number + 1) * GOLDEN % 1 * vocab_size) for number in range(length)]


def probe_of(network: Any) -> list[int]:
    """Return the text to score for a network, which is no longer than its context."""
    context = context_length(network)
    return probe_ids(network_size(network), LENGTH if context is None else min(LENGTH, context - 1))


def network_size(network: Any) -> int:
    """Return the number of tokens that a network can read."""
    size = getattr(network, "vocab_size", None)
    return size if size is not None else network.get_input_embeddings().weight.shape[0]


@torch.no_grad()
def token_log_probs(writer: Writer, ids: Sequence[int]) -> list[float]:
    """Return the log-probability of each token after the first, by the network itself.

    Under a sharded network all ranks must call this.

    Example:
        >>> from kdlight import SingleInput
        >>> network = torch.nn.Embedding.from_pretrained(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        >>> values = token_log_probs(Writer(SingleInput(network, key="input_ids")), [0, 1, 0])
        >>> [round(value, 3) for value in values]
        [-0.313, -0.693]
    """
    tokens = torch.tensor([list(ids)], device=writer.device)
    with evaluating(writer.network):
        source = call_network(writer.network, {"input_ids": tokens})
    values = torch.log_softmax(source.logits()[0, :-1].float(), -1)
    return values.gather(-1, tokens[0, 1:, None])[:, 0].tolist()


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest absolute difference, NaN if there is one.

    Example:
        >>> largest_difference([1.0, 2.0], [1.5, 2.0])
        0.5
    """
    pairs = torch.tensor([list(one), list(other)], dtype=torch.float64)
    return (pairs[0] - pairs[1]).abs().max().item()
