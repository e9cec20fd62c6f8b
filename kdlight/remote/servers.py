"""Several servers with the same teacher, asked by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar

from kdlight.endpoints import Endpoint, RequestRefused, ServerError

Result = TypeVar("Result")


class Servers:
    """Endpoints that are asked by turns; where one does not answer, the others are asked.

    Args:
        endpoints: the servers.

    Example:
        >>> servers = Servers([Endpoint("http://one:80"), Endpoint("http://two:80")])
        >>> [servers.ask(lambda endpoint: endpoint.url) for _ in range(3)]
        ['http://one:80', 'http://two:80', 'http://one:80']
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = list(endpoints)
        self._turns = count()  # next() is atomic, so that threads share it

    def ask(self, request: Callable[[Endpoint], Result]) -> Result:
        """Return what ``request`` returns for the next endpoint, or for another one.

        Raises:
            ServerError: none of them answers; it is the error of the first one.
            RequestRefused: one refuses the request, as all others would.
        """
        begin, failed = next(self._turns), None
        for number in range(len(self.endpoints)):
            endpoint = self.endpoints[(begin + number) % len(self.endpoints)]
            try:
                return request(endpoint)
            except RequestRefused:
                raise
            except ServerError as error:
                failed = failed or error
        assert failed is not None
        raise failed

    def close(self) -> None:
        """Close all connections."""
        for endpoint in self.endpoints:
            endpoint.close()

    def __getstate__(self) -> dict[str, object]:
        return {"endpoints": self.endpoints}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _turns=count())
