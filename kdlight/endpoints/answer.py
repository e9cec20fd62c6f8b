"""What a server answered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end.

    Attributes:
        status: the HTTP status.
        headers: the headers, by name in any case.
        content: the body.

    Example:
        >>> Answer(200, {}, b'{"id": "teacher"}').json()
        {'id': 'teacher'}
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text; what is no text is replaced."""
        return self.content.decode(errors="replace")

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the server wants to be asked again; None if it does not say."""
        try:
            seconds = float(self.headers.get("Retry-After", ""))
        except ValueError:  # none, or a date
            return None
        return max(seconds, 0.0) if isfinite(seconds) else None

    def json(self) -> Any:
        """Return the JSON value of the body.

        Raises:
            ValueError: the body is not JSON, such as a page of a proxy, or is cut.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON ({error}): {self.text[:80]!r}") from error


def read_answer(response: Any, seconds: float) -> Answer:
    """Read a streamed ``httpx2.Response`` to its end.

    Args:
        response: the response.
        seconds: most time that the body may take. The time-out of a client is that of a part of it,
            which a server that sends a byte now and then never reaches.

    Raises:
        TimeoutError: the body takes longer.
    """
    deadline, parts = time.monotonic() + seconds, []
    for part in response.iter_bytes():
        parts.append(part)
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer is not complete after {seconds:g} seconds")
    return Answer(response.status_code, response.headers, b"".join(parts))
