from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from kdlight.remote import ServerInfo


def test_what_is_not_told_is_none() -> None:
    info = ServerInfo("a server", "teacher")
    assert (info.vocab_size, info.max_k, info.states, info.scores_ids) == (None, None, None, False)
    with pytest.raises(FrozenInstanceError):
        info.model = "another"  # type: ignore[misc]
