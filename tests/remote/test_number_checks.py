"""Numbers of an answer that arrived whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kdlight.cache.records import Sequence
from kdlight.remote.number_checks import check_numbers
from tests.support.scored import scored


def one(*, value: float = 0.0, tail: float | None = None, drop: bool = False) -> list[Sequence]:
    """Two rows of 4 and 3 positions with 5 of 20 tokens, the second one changed."""
    rows = scored([4, 3], k=5, vocabulary=20)
    changed = rows[1]._replace(
        log_probs=rows[1].log_probs.copy(), log_tails=rows[1].log_tails.copy()
    )
    if value:
        changed.log_probs[6] = value
    if tail is not None:
        changed.log_tails[1] = tail
    if drop:
        kept = np.arange(15) != 6
        lost = np.exp(changed.log_probs[6].astype(np.float64))
        changed.log_tails[1] = np.log(np.exp(changed.log_tails[1]) + lost)
        changed = changed._replace(
            positions=changed.positions[kept],
            ids=changed.ids[kept],
            log_probs=changed.log_probs[kept],
        )
    return [rows[0], changed]


@pytest.mark.parametrize("k", [1, 5, 20, None])
def test_right_numbers_pass(k: int | None) -> None:
    width = 20 if k is None else k
    check_numbers(scored([4, 1, 3], k=width, vocabulary=20), k=k)
    check_numbers([])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (one(value=math.nan), "row 1 has a log-probability of nan"),
        (one(value=0.5), "row 1 has a log-probability of 0.5"),
        (one(value=math.inf), "row 1 has a log-probability of inf"),
        (one(tail=math.nan), "row 1 has a log tail of nan"),
        (one(tail=0.5), "row 1 has a log tail of 0.5"),
        (one(tail=-1e-4), "the probabilities of row 1, position 1 sum to 1"),
        (one(value=-30.0), "the probabilities of row 1, position 1 sum to 0"),
        (one(drop=True), "row 1, position 1 has 4 tokens instead of 5"),
    ],
)
def test_wrong_numbers_are_named(wrong: list[Sequence], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_numbers(wrong, k=5)


def test_numbers_of_few_bits_need_not_sum_to_1() -> None:
    check_numbers(one(value=-30.0), k=5, exact=False)
    with pytest.raises(ValueError, match="nan"):
        check_numbers(one(value=math.nan), exact=False)


def test_a_position_may_have_fewer_tokens_where_all_others_are_impossible() -> None:
    values = np.log(np.array([0.25, 0.75], dtype=np.float32))
    row = Sequence(1, np.array([0, 0]), np.array([1, 3]), values, np.array([-np.inf], np.float32))
    check_numbers([row], k=5)
