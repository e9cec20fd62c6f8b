"""Hidden states that a server returned, with the output head that was fetched once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from kdlight.remote.connection import Connection
from kdlight.sources import Projected


class ServedHead:
    """The output head of a served teacher; no parameter of it is trained.

    Args:
        head: from hidden states ``(..., D)`` to logits ``(..., V)``.
        transform: what the model does to logits after its head, or None.

    Example:
        >>> served = ServedHead(nn.Linear(4, 5), None)
        >>> any(p.requires_grad for p in served.head.parameters())
        False
    """

    def __init__(self, head: nn.Module, transform: Callable | None) -> None:
        self.head = head.eval().requires_grad_(False)
        self.transform = transform

    def to(self, device: torch.device) -> None:
        """Move the head to ``device``."""
        self.head.to(device)


def fetch_head(connection: Connection) -> ServedHead:
    """Ask a server for the output head."""
    dialect, info = connection.dialect, connection.info
    return ServedHead(*connection.servers.ask(lambda each: dialect.head(each, info)))


def place_states(
    states: Mapping[int, Tensor],
    starts: Mapping[int, int],
    shape: torch.Size,
    head: ServedHead,
    device: torch.device,
) -> Projected:
    """Return the source of a batch whose rows have these hidden states.

    Positions without one hold NaN, so that they cannot be used by mistake.

    Args:
        states: hidden states ``(T, D)`` of each row that has some, by the number of the row.
        starts: the position at which they begin.
        shape: shape of the positions of the batch, ``(B, T)``.
        head: the output head.
        device: of the source.

    Example:
        >>> head, cpu = ServedHead(nn.Linear(4, 5), None), torch.device("cpu")
        >>> source = place_states({0: torch.ones(2, 4)}, {0: 1}, torch.Size([1, 3]), head, cpu)
        >>> source.shape, source.hidden[0, :, 0].tolist()
        (torch.Size([1, 3, 5]), [nan, 1.0, 1.0])
    """
    weight = next(head.head.parameters())
    dtype = next((each.dtype for each in states.values()), weight.dtype)
    hidden = torch.full((*shape, weight.shape[-1]), torch.nan, dtype=dtype)
    for number, each in states.items():
        hidden[number, starts[number] : starts[number] + len(each)] = each
    return Projected(hidden.to(device), head.head, head.transform)
