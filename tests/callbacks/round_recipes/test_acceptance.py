"""A critic accepts finished answers with a score that is high enough."""

from __future__ import annotations

from kdlight.callbacks.round_recipes.acceptance import is_accepted
from kdlight.data.traces import Trace


def test_the_score_and_the_end_decide() -> None:
    scores = (None, 0.4, 0.5, 1.0)
    accepted = [is_accepted(Trace("a", "b", score=score), 0.5) for score in scores]
    assert accepted == [False, False, True, True]
    assert not is_accepted(Trace("a", "b", score=1.0, finished=False), 0.5)
    assert is_accepted(Trace("a", "b", score=1.0, finished=True), 0.5)
