"""What a teacher's servers are asked: top tokens, hidden states, or tokens of the student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdlight.remote.connection import Connection
from kdlight.remote.requests_in_flight import RequestsInFlight
from kdlight.remote.rows import TokenRow


class Questions:
    """Asks the servers of a connection about rows, in several requests at the same time.

    Args:
        connection: the servers.
        k: number of tokens of a position.
        states: ask for hidden states instead.
        requests: number of requests at the same time.
        max_tokens: most tokens of a request.
    """

    def __init__(
        self, connection: Connection, *, k: int, states: bool, requests: int, max_tokens: int
    ) -> None:
        self.connection, self.k, self.states = connection, k, states
        self.limits = {"requests": requests, "max_tokens": max_tokens}
        self.flight = RequestsInFlight(self._ask, **self.limits)

    def announce(self, rows: Mapping[int, TokenRow]) -> None:
        """Send the requests for rows that will be asked about next."""
        self.flight.announce([*rows.values()])

    def ask(self, rows: Mapping[int, TokenRow]) -> dict[int, Any]:
        """Return the top k, or the hidden states, of each row by its number."""
        answers = self.flight.collect([*rows.values()])
        return {number: answers[row.key] for number, row in rows.items()}

    def ask_ids(
        self, rows: Mapping[int, TokenRow], ids: Mapping[int, NDArray[np.int64]]
    ) -> dict[int, Any]:
        """Return the log-probabilities of ``ids``, ``(T, k)`` of each row, by its number."""
        # the number is the key: rows of the same tokens may have other valid positions, where ids
        # are chosen; and nothing is asked before it is needed, as the student changes
        numbered = [row._replace(key=str(number).encode()) for number, row in rows.items()]
        dialect, info = self.connection.dialect, self.connection.info

        def ask(some: list[TokenRow]) -> list[Any]:
            tokens, wanted = [row.tokens for row in some], [ids[int(row.key)] for row in some]
            return self.connection.servers.ask(
                lambda each: dialect.score_ids(each, info, tokens, wanted)
            )

        flight = RequestsInFlight(ask, **self.limits)
        try:
            answers = flight.collect(numbered)
        finally:
            flight.close()
        return {int(key): answer for key, answer in answers.items()}

    def close(self) -> None:
        """Forget what was announced, and close the connections."""
        self.flight.close()
        self.connection.servers.close()

    def _ask(self, rows: list[TokenRow]) -> list[Any]:
        tokens, servers = [row.tokens for row in rows], self.connection.servers
        dialect, info = self.connection.dialect, self.connection.info
        if self.states:
            return servers.ask(lambda each: dialect.states(each, info, tokens))
        return servers.ask(lambda each: dialect.score(each, info, tokens, self.k))
