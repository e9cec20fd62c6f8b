from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from kdlight.endpoints.request import Request


def test_it_is_named_by_what_is_asked_and_cannot_be_changed_between_attempts() -> None:
    request = Request("POST", "/score", "the scores", {"json": {"k": 3}})
    assert str(request) == "the scores (to /score)"
    with pytest.raises(FrozenInstanceError):
        request.path = "/other"  # type: ignore[misc]
