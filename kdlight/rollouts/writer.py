"""The network that writes the text of a rollout, and what an engine must know about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def _own_weights() -> Mapping[str, Tensor] | None:
    return None


@dataclass(frozen=True)
class Writer:
    """A network that generates text, where it stands, and how its weights are gathered.

    Attributes:
        network: the network, such as a `kdlight.CausalLM`; None where an engine generates with the
            weights that it has already.
        device: the device of the network.
        sharded: whether the network is divided among ranks, so that all ranks must call it equally
            often.
        weights: returns the whole weights of a sharded network on the first rank, and None for a
            network that is whole; called on all ranks.
        as_it_is: whether tokens must be drawn from the distribution of the network itself, whatever
            its generation config sets.
        vocab_size: the ids below it can be drawn, as a teacher knows no others; None for all.

    Example:
        >>> Writer(torch.nn.Linear(2, 3)).weights() is None
        True
    """

    network: Any
    device: torch.device = torch.device("cpu")
    sharded: bool = False
    weights: Callable[[], Mapping[str, Tensor] | None] = _own_weights
    as_it_is: bool = False
    vocab_size: int | None = None
