"""What rank 0 computes is known to all; on several ranks see test_rounds_ranks.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdlight.callbacks.round_recipes.first_rank import from_first_rank
from tests.support import toy


class SecondRank:
    """What the second of two ranks sees of a trainer."""

    world_size, is_global_zero = 2, False

    def __init__(self, sent: Any) -> None:
        self.strategy = self
        self.sent = sent

    def broadcast(self, own: Any) -> Any:
        return self.sent


def test_one_process_computes_by_itself(tmp_path: Path) -> None:
    run = toy.trainer(tmp_path)
    assert from_first_rank(run, lambda: [1, 2]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        from_first_rank(run, lambda: 1 / 0)


def test_another_rank_does_not_compute_and_fails_with_the_first() -> None:
    other: Any = SecondRank((7, False, ""))
    assert from_first_rank(other, lambda: 1 / 0) == 7
    other = SecondRank((None, True, "rank 0 failed: OSError: disk is full"))
    with pytest.raises(ValueError, match="rank 0 failed: OSError: disk is full"):
        from_first_rank(other, lambda: 3)
