"""What a server is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A request, which may be sent several times.

    Attributes:
        method: ``"GET"`` or ``"POST"``.
        path: begins with ``/``.
        what: names it in errors, such as "the top 50 of 4 sequences".
        body: what is sent: ``json`` or ``content``, and ``headers``.

    Example:
        >>> str(Request("GET", "/health", "its state", {}))
        'its state (to /health)'
    """

    method: str
    path: str
    what: str
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.what} (to {self.path})"
