"""What can go wrong between a client and a server."""

from __future__ import annotations


class ServerError(ConnectionError):
    """A server did not answer a request, or answered with what is no answer to it.

    Attributes:
        url: the server.
        on_all_ranks: whether every rank of the run raises an error.

    Example:
        >>> ServerError("no answer", url="http://localhost:8000").url
        'http://localhost:8000'
    """

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message)
        self.url = url
        self.on_all_ranks = False

    def __reduce__(self) -> tuple:  # an error of a worker process is pickled
        return _rebuild, (type(self), str(self), self.url)


class UnusableAnswer(ServerError):
    """A server answered several times, and each answer was damaged or was none to the request.

    Example:
        >>> issubclass(UnusableAnswer, ServerError)
        True
    """


class RequestRefused(ServerError):
    """A server understood a request and refused it, so that sending it again would not help.

    Attributes:
        status: the HTTP status.
        text: what the server said.

    Example:
        >>> RequestRefused("no", url="http://localhost:8000", status=400, text="k too large").status
        400
    """

    def __init__(self, message: str, *, url: str, status: int = 400, text: str = "") -> None:
        super().__init__(message, url=url)
        self.status = status
        self.text = text

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), str(self), self.url, self.status, self.text)


def _rebuild(kind: type[ServerError], message: str, url: str, *rest: object) -> ServerError:
    names = ("status", "text")
    return kind(message, url=url, **dict(zip(names, rest, strict=False)))
