"""The room of a continuation within a context."""

from __future__ import annotations

import pytest
import torch

from kdlight.rollouts.room import check_served_room, room_in_context

TEXTS = [torch.zeros(length) for length in (3, 8, 10)]


def test_the_context_limits_what_is_written() -> None:
    assert room_in_context(TEXTS, [2, 5, 5], None) == [2, 5, 5]
    assert room_in_context(TEXTS, [2, 5, 5], 10) == [2, 2, 0]


def test_a_server_that_would_cut_a_text_is_an_error() -> None:
    check_served_room(TEXTS, [7, 2, 0], 10, "http://here")
    check_served_room(TEXTS, [7, 99, 99], None, "http://here")
    with pytest.raises(ValueError, match="of 8 tokens .* by 3, .* http://here is 10; start the"):
        check_served_room(TEXTS, [7, 3, 0], 10, "http://here")
