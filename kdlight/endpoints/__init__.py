"""HTTP servers as a client sees them: requests with time-outs, retries and credentials."""

from __future__ import annotations

from kdlight.endpoints.endpoint import Endpoint
from kdlight.endpoints.errors import RequestRefused, ServerError, UnusableAnswer

__all__ = ["Endpoint", "RequestRefused", "ServerError", "UnusableAnswer"]
