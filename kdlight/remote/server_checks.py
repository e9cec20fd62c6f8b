"""A server compared with the data and with what the user expects of it."""

from __future__ import annotations

from typing import Any

from kdlight.cache.fingerprints import fingerprint_tokenizer
from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint
from kdlight.remote.connection import Connection
from kdlight.remote.position_check import check_positions

TRIED = 5
"""Number of tokens that a server is tried with."""


def check_same_tokenizer(connection: Connection, tokenizer: Any) -> None:
    """Raise a ValueError where servers have another tokenizer than the data, as far as they tell.

    Args:
        connection: the servers.
        tokenizer: the tokenizer of the data.
    """
    info, endpoint = connection.info, connection.servers.endpoints[0]
    own = fingerprint_tokenizer(tokenizer)
    if None not in (own, info.tokenizer) and own != info.tokenizer:
        name = getattr(tokenizer, "name_or_path", type(tokenizer).__name__)
        raise ValueError(
            f"{endpoint.url} ({info.software}, {info.model}) has a tokenizer of fingerprint"
            f" {info.tokenizer}, but the tokenizer of the data, {name}, has {own}; serve a teacher"
            " with the tokenizer of the data"
        )
    for each in connection.servers.endpoints:
        connection.dialect.check_tokenizer(each, info, tokenizer)


def check_scores(connection: Connection, *, k: int, vocab_size: int) -> None:
    """Raise a ValueError where a server does not score as its kind should.

    Args:
        connection: the servers.
        k: number of tokens of a position.
        vocab_size: number of tokens.
    """
    dialect, info = connection.dialect, connection.info
    if not dialect.needs_check or vocab_size < TRIED:
        return
    tokens = [vocab_size * (number + 1) // (TRIED + 1) for number in range(TRIED)]
    for endpoint in connection.servers.endpoints:

        def score(sequences: list[list[int]], endpoint: Endpoint = endpoint) -> list[Sequence]:
            return dialect.score(endpoint, info, sequences, k)

        check_positions(score, tokens, f"{endpoint.url} ({info.software}, {info.model})")
