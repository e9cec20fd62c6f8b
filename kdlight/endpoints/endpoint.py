"""One server behind a URL: requests that are repeated until they are answered, or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from kdlight.checks import check_integer, check_positive
from kdlight.endpoints.answer import Answer, read_answer
from kdlight.endpoints.attempts import NotAnsweredError, repeat
from kdlight.endpoints.client import Client, import_httpx
from kdlight.endpoints.credentials import check_variable, read_token
from kdlight.endpoints.errors import RequestRefused, ServerError, UnusableAnswer
from kdlight.endpoints.request import Request
from kdlight.endpoints.urls import is_loopback, parse_url

REPEATED = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which a request is sent again: the server is busy, starting or restarting."""

OPENING = threading.Lock()
"""Held while a client is created: one of two would be closed while it is in use."""

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What reading an answer raises that is damaged, or another one than expected."""

SHOWN = 300
"""Number of characters of a server's text in an error."""


class Endpoint:
    """One server: ``get`` and ``post``, with time-outs and retries.

    A request that fails because the server is not there, busy or restarting is sent again, after
    pauses of about 0.1, 0.2, 0.4, ... seconds, at most ``longest_pause``, or as long as the server
    asks for with ``Retry-After``. Requests change nothing on a server, so that one may be sent
    twice. After ``retries`` further attempts there is one error.

    Args:
        url: the address, such as ``"http://localhost:8000"``.
        timeout: seconds to wait for a server, of each attempt.
        retries: number of further attempts.
        token_variable: name of the environment variable with the server's token, which is sent as
            ``Authorization: Bearer ...`` and is written nowhere.
        longest_pause: most seconds between two attempts.

    Attributes:
        received: number of bytes of all answers.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no address; a number out of range; a variable that is not set.

    Example:
        >>> Endpoint("http://localhost:8000/", retries=2).url
        'http://localhost:8000'
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 60.0,
        retries: int = 8,
        token_variable: str | None = None,
        longest_pause: float = 30.0,
    ) -> None:
        self.url = parse_url(url)
        check_positive("timeout", timeout)
        check_integer("retries", retries, 0)
        check_variable(token_variable)
        self.timeout, self.retries = float(timeout), retries
        self.token_variable, self.longest_pause = token_variable, longest_pause
        self.received = 0
        self._client: Client | None = None

    def get(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        what: str = "request",
        retries: int | None = None,
        accept: Callable[[Answer], Any] | None = None,
    ) -> Any:
        """Return the `kdlight.endpoints.answer.Answer` to a GET request; see `post`."""
        return self._answered(Request("GET", path, what, {"headers": headers}), retries, accept)

    def post(
        self,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        what: str = "request",
        retries: int | None = None,
        accept: Callable[[Answer], Any] | None = None,
    ) -> Any:
        """Return the `kdlight.endpoints.answer.Answer` to a POST request.

        Args:
            path: begins with ``/``.
            json: content that JSON can represent.
            content: or bytes.
            headers: further headers.
            what: names the request in errors, such as "the top 50 of 4 sequences".
            retries: number of further attempts, if it is not that of the endpoint.
            accept: returns what the caller wants of a response, which is then the result. Where it
                raises one of `UNREADABLE`, the answer is damaged, and the request is sent again.

        Raises:
            ServerError: the server did not answer.
            UnusableAnswer: it answered several times with what cannot be used.
            RequestRefused: it refused the request.
        """
        body = {"json": json, "content": content, "headers": headers}
        return self._answered(Request("POST", path, what, body), retries, accept)

    def close(self) -> None:
        """Close the connections, each after the request that uses it; later ones are new."""
        self._client = None

    def _answered(
        self, request: Request, retries: int | None, accept: Callable[[Answer], Any] | None
    ) -> Any:
        number = 1 + (self.retries if retries is None else retries)
        attempt = partial(self._attempt, request, accept)
        try:
            return repeat(attempt, attempts=number, longest_pause=self.longest_pause)
        except NotAnsweredError as last:
            kind = UnusableAnswer if last.is_unusable else ServerError
            raise kind(
                f"{self.url} did not answer {request} after {last.attempts} attempts; the"
                f" last one: {last}. Check that the server runs and can be reached from this"
                " machine, and that it is not overloaded; then resume the run from its last"
                " checkpoint, or raise `retries` or `timeout`",
                url=self.url,
            ) from last

    def _attempt(self, request: Request, accept: Callable[[Answer], Any] | None) -> Any:
        httpx = import_httpx()
        try:
            client = self._open()  # in a name, which keeps its connections until the answer is read
            url = self.url + request.path
            with client.get().stream(request.method, url, **request.body) as response:
                answer = read_answer(response, self.timeout)
            self.received += len(answer.content)
        except httpx.InvalidURL as error:
            message = f"{self.url}{request.path} is no address: {error}"
            raise ServerError(message, url=self.url) from error
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
            raise NotAnsweredError(f"{type(error).__name__} {error}".strip()) from error
        if answer.status in REPEATED:
            said = f"status {answer.status}, {answer.text[:SHOWN]!r}"
            raise NotAnsweredError(said, pause=answer.retry_after)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer, request)
        if accept is None:
            return answer
        try:
            return accept(answer)
        except UNREADABLE as error:
            message = f"an answer that cannot be used: {error}"
            raise NotAnsweredError(message, is_unusable=True) from error

    def _refusal(self, answer: Answer, request: Request) -> RequestRefused:
        status, text = answer.status, answer.text[:SHOWN].strip()
        hint = ""
        if status in (401, 403):
            given = self.token_variable
            hint = (
                f"; check the token in the environment variable {given}"
                if given
                else "; set token_variable to the name of an environment variable with its token"
            )
        return RequestRefused(
            f"{self.url} refused {request} with status {status}: {text!r}{hint}",
            url=self.url,
            status=status,
            text=text,
        )

    def _open(self) -> Client:
        """Return the client, which all threads share."""
        with OPENING:
            if self._client is None:
                token = read_token(self.token_variable)
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                self._client = Client(
                    timeout=self.timeout, headers=headers, is_local=is_loopback(self.url)
                )
            self._client.get()
            return self._client

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None}  # neither connections nor the token are pickled

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"
