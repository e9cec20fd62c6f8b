"""Exchanges that were recorded with real servers, and a server that answers with them.

Each file says which version made it, and how.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.http_server import Asked, Decide, Reply


class Recording(dict[str, Any]):
    """The exchanges of a file by name: method, path, request, status and answer."""

    def __init__(self, file: str) -> None:
        content = json.loads((Path(__file__).parent / file).read_text())
        super().__init__(content["exchanges"])
        self.about: str = content["about"]


def replayed(recording: Recording, *, limits: tuple[int, int] | None = None) -> Decide:
    """Answer a request that was recorded as it was answered then.

    Args:
        recording: the exchanges.
        limits: width of the vocabulary and largest k, with which vLLM refuses to return all.
    """

    def decide(asked: Asked, number: int) -> Reply:
        body = asked.json() if asked.content else None
        if limits is not None and body and body.get("prompt_logprobs") == -1:
            refused = "Requested prompt logprobs of {}, which is greater than max allowed: {}"
            return Reply({"error": {"message": refused.format(*limits)}}, 400)
        for each in recording.values():
            if (each["method"], each["path"]) == (asked.method, asked.path) and (
                each["request"] is None or each["request"] == body
            ):
                return Reply(each["answer"], each["status"])
        return Reply({"error": "not recorded"}, 404)

    return decide
