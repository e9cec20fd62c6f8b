"""The base of dialects: how one kind of server is asked for log-probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint
from kdlight.remote.server_info import ServerInfo

Tokens = list[int]
"""Token ids of a sequence without padding."""


class Dialect(ABC):
    """How one kind of server is asked. A dialect has no state: it may be used by several threads.

    Position t of a sequence has the distribution of token t + 1, given the tokens up to t. Servers
    that score the tokens of a prompt know T - 1 of T positions; the last one is not among the
    positions of a `kdlight.cache.records.Sequence` then.

    Example:
        >>> from kdlight.remote import DIALECTS
        >>> sorted(DIALECTS)
        ['kdlight', 'sglang', 'text', 'trl', 'vllm']
    """

    name: ClassVar[str]
    scores_last: ClassVar[bool] = False
    """Whether the position of the last token is scored, too."""

    needs_check: ClassVar[bool] = True
    """Whether `kdlight.remote.position_check` tries a server before it is believed."""

    @abstractmethod
    def discover(self, endpoint: Endpoint, model: str | None) -> ServerInfo:
        """Return what the server tells about itself.

        Args:
            endpoint: the server.
            model: the model's name; None for the only one of the server.

        Raises:
            ServerError: the server does not answer, or does not speak the dialect.
            ValueError: it has no model of this name.
        """

    @abstractmethod
    def score(
        self, endpoint: Endpoint, info: ServerInfo, sequences: list[Tokens], k: int | None
    ) -> list[Sequence]:
        """Return the k most likely tokens at each position of each sequence, in one request.

        Args:
            endpoint: the server.
            info: what it told.
            sequences: the sequences.
            k: number of tokens; None for all.

        Raises:
            ServerError: the server does not answer, or its answers cannot be used.
        """

    def score_ids(
        self,
        endpoint: Endpoint,
        info: ServerInfo,
        sequences: list[Tokens],
        ids: list[NDArray[np.int64]],
    ) -> list[Sequence]:
        """Return the log-probabilities of ``ids``, each ``(T, k)``, in one request.

        Called where ``info.scores_ids`` is true; most servers cannot do it.
        """
        raise NotImplementedError(f"{self.name} servers score no ids that the client chooses")

    def states(self, endpoint: Endpoint, info: ServerInfo, sequences: list[Tokens]) -> list[Tensor]:
        """Return the hidden states ``(T, D)`` before the output head, in one request.

        Called where ``info.states`` is set; most servers return no hidden states.
        """
        raise NotImplementedError(f"{self.name} servers return no hidden states")

    def head(self, endpoint: Endpoint, info: ServerInfo) -> tuple[nn.Module, Callable | None]:
        """Return the output head, and what the model does to logits after it, or None.

        Called where ``info.states`` is set, once.
        """
        raise NotImplementedError(f"{self.name} servers return no output head")

    def check_tokenizer(self, endpoint: Endpoint, info: ServerInfo, tokenizer: Any) -> None:
        """Raise a ValueError if the server's tokenizer is another one, where it can be asked."""
        return
