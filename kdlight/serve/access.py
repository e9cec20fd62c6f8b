"""Who may ask a server: this machine, or whoever knows its token."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import Any

from starlette.responses import PlainTextResponse

from kdlight.endpoints.credentials import check_variable, read_token

OPEN = ("/health",)
"""Paths that need no token."""


def find_token(host: str, token_variable: str | None) -> str | None:
    """Return the token that clients need; None for a server that only this machine reaches.

    Args:
        host: the address that the server listens on.
        token_variable: name of the environment variable with the token.

    Raises:
        TypeError: ``token_variable`` is no string.
        ValueError: the variable is empty; or the server can be reached from elsewhere without one.

    Example:
        >>> find_token("0.0.0.0", None)
        Traceback (most recent call last):
        ValueError: host is '0.0.0.0', which other machines reach; put a token into an ...
    """
    check_variable(token_variable)
    if token_variable is None and not is_local(host):
        raise ValueError(
            f"host is {host!r}, which other machines reach; put a token into an environment"
            " variable, and its name into token_variable; or keep the host 127.0.0.1"
        )
    return read_token(token_variable)


def is_local(host: str) -> bool:
    """Return whether only this machine reaches an address.

    Example:
        >>> [is_local(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0")]
        [True, True, True, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class BearerAccess:
    """Refuses requests without the token, before anything of them is read.

    Args:
        app: the application.
        token: the token.

    Example:
        >>> BearerAccess(None, token="a").allows(b"Bearer a")
        True
    """

    def __init__(self, app: Any, token: str) -> None:
        self.app = app
        self._expected = f"Bearer {token}".encode()

    def allows(self, authorization: bytes) -> bool:
        """Return whether a header ``Authorization`` has the token."""
        return hmac.compare_digest(authorization, self._expected)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it with the status 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not self.allows(given):
                refusal = PlainTextResponse(
                    "this server needs its token as Authorization: Bearer TOKEN",
                    status_code=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)
