"""Requests that are answered while the student is trained on earlier ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from kdlight.endpoints.background import BackgroundCalls
from kdlight.remote.grouping import group
from kdlight.remote.rows import TokenRow

Ask = Callable[[list[TokenRow]], list[Any]]
"""Returns the answer for each of some rows, in one request."""


class RequestsInFlight:
    """Asks a server about rows in several threads, and keeps the answers until they are needed.

    Rows are known by their keys, so that a row of a batch that was announced is asked about once.
    Answers to the batches before the last two that were announced are dropped: a callback may have
    replaced the batch.

    Args:
        ask: one request.
        requests: number of requests at the same time.
        max_tokens: most tokens of a request.

    Example:
        >>> flight = RequestsInFlight(
        ...     lambda rows: [len(row.tokens) for row in rows], requests=2, max_tokens=8
        ... )
        >>> flight.collect([TokenRow(b"a", [1, 2], 0), TokenRow(b"b", [3], 0)])
        {b'a': 2, b'b': 1}
    """

    def __init__(self, ask: Ask, *, requests: int, max_tokens: int) -> None:
        self.ask, self.requests, self.max_tokens = ask, requests, max_tokens
        self._announced: list[dict[bytes, _Answer]] = []
        self._calls = BackgroundCalls(requests)
        self._process = os.getpid()

    def announce(self, rows: Sequence[TokenRow]) -> None:
        """Send the requests for a batch that will be collected later."""
        asked = self._send(rows)
        self._announced = [*self._announced[-1:], asked]

    def collect(self, rows: Sequence[TokenRow]) -> dict[bytes, Any]:
        """Return the answer of each row by its key.

        Raises:
            ServerError: a request was not answered.
        """
        asked = self._send(rows)
        kept, self._announced = self._announced, []
        try:
            return {key: answer() for key, answer in asked.items()}
        finally:
            # what was announced and is not of this batch is that of the next one
            self._announced = [rest for each in kept if (rest := _without(each, asked))][-1:]

    def close(self) -> None:
        """Forget all answers, and end the threads; running requests are not waited for."""
        self._calls.close()
        self._announced = []

    def _send(self, rows: Sequence[TokenRow]) -> dict[bytes, _Answer]:
        """Send a request for each row that is not asked about yet; return all answers to come."""
        if self._process != os.getpid():  # the threads of a parent do not answer here
            self._announced, self._process = [], os.getpid()
        known = {key: each for asked in self._announced for key, each in asked.items()}
        unique = {row.key: row for row in rows}
        new = [row for key, row in unique.items() if key not in known]
        groups = group(
            [len(row.tokens) for row in new],
            max_tokens=self.max_tokens,
            requests=self.requests,
        )
        for indices in groups:
            some = [new[i] for i in indices]
            future = self._calls.submit(self.ask, some)
            for place, row in enumerate(some):
                known[row.key] = _Answer(future, place)
        return {key: known[key] for key in unique}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_announced": []}


class _Answer:
    """One row of a request that is under way."""

    def __init__(self, future: Future, place: int) -> None:
        self.future, self.place = future, place

    def __call__(self) -> Any:
        return self.future.result()[self.place]


def _without(asked: dict[bytes, _Answer], used: dict[bytes, _Answer]) -> dict[bytes, _Answer]:
    return {key: each for key, each in asked.items() if key not in used}
