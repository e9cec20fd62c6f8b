"""Addresses of servers, checked and written in one way."""

from __future__ import annotations

from ipaddress import ip_address
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
    if parts.query or parts.fragment:  # such as ?api_key=
        raise ValueError(
            f"{name} must be an address without '?' and '#', which may hold a key; put a token"
            " into an environment variable, and its name into token_variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = "what has an '@' in it" if "@" in url else repr(url)
        raise ValueError(
            f"{name} must be an address such as 'http://localhost:8000', got {shown}; begin it with"
            " http:// or https://"
        )
    return url.strip().rstrip("/")


def is_loopback(url: str) -> bool:
    """Return whether an address is one of this machine.

    Example:
        >>> [is_loopback(each) for each in ("http://localhost:1", "http://[::1]", "http://10.0.0.1")]
        [True, True, False]
    """
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")
