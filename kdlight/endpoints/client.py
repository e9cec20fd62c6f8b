"""The HTTP client of a process."""

from __future__ import annotations

import os
import weakref
from typing import Any


class Client:
    """An HTTP client that is created when it is first used, and anew in a process that was forked.

    Args:
        timeout: seconds to wait for a part of an answer.
        headers: sent with every request.
        is_local: whether the server is on this machine, where a proxy that the environment names
            could not reach it, and would read the token.

    Raises:
        ModuleNotFoundError: the packages for servers are not installed.

    Example:
        >>> Client(timeout=5.0).timeout
        5.0
    """

    def __init__(
        self, *, timeout: float, headers: dict[str, str] | None = None, is_local: bool = False
    ) -> None:
        self.timeout = timeout
        self._headers = headers or {}
        self._is_local = is_local
        self._client: Any = None
        self._process = -1

    def get(self) -> Any:
        """Return the ``httpx2.Client``."""
        if self._client is None or self._process != os.getpid():
            httpx = import_httpx()
            # no more connections than threads ask for; a server that is gone is noticed quickly
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
            timeout = httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0))
            self._client = httpx.Client(
                timeout=timeout,
                headers=self._headers,
                limits=limits,
                trust_env=not self._is_local,
            )
            self._process = os.getpid()
            # whoever forgets to close it leaves no connection open
            weakref.finalize(self, _close, self._client, self._process)
        return self._client

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            _close(self._client, self._process)
        self._client = None


def _close(client: Any, process: int) -> None:
    if process == os.getpid():  # a forked process shares the connections of its parent
        client.close()


def import_httpx() -> Any:
    """Return the module ``httpx2``.

    Raises:
        ModuleNotFoundError: it is not installed.

    Example:
        >>> import_httpx().__name__
        'httpx2'
    """
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a teacher or an engine behind a URL needs the packages httpx2 and tenacity; install"
            " them with: pip install 'kdlight[serve]'"
        ) from error
    return httpx2
