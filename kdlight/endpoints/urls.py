"""Addresses of servers, checked and written in one way."""

from __future__ import annotations

from urllib.parse import urlsplit

from kdlight.checks import check_type


def parse_url(url: str, name: str = "url") -> str:
    """Return the address of a server, without a slash at its end.

    Args:
        url: such as ``"http://localhost:8000"``, with or without a path.
        name: the argument, for messages.

    Raises:
        TypeError: ``url`` is no string.
        ValueError: it has no scheme or host, or contains a password.

    Example:
        >>> parse_url("http://localhost:8000/")
        'http://localhost:8000'
    """
    check_type(name, url, str, "an address such as 'http://localhost:8000'")
    parts = urlsplit(url.strip())
    if parts.username or parts.password:
        # the message does not repeat the address, which has the password in it
        raise ValueError(
            f"{name} contains a user or a password, which would be written to configs and logs; put"
            " a token into an environment variable, and its name into token_variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{name} must be an address such as 'http://localhost:8000', got {url!r}; begin it with"
            " http:// or https://"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"{name} must be an address without '?' and '#', got {url!r}")
    return url.strip().rstrip("/")
