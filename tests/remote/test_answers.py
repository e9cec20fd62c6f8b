from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kdlight.remote.answers import check_values, to_sequence


def test_tokens_are_sorted_and_the_tail_is_what_they_leave() -> None:
    found = to_sequence(
        4, [(0, [9, 2], [math.log(0.5), math.log(0.25)]), (2, [1], [math.log(0.75)])], vocab_size=10
    )
    assert found.ids.tolist() == [2, 9, 1]
    assert found.positions.tolist() == [0, 0, 2]
    assert found.log_probs.tolist() == pytest.approx([math.log(x) for x in (0.25, 0.5, 0.75)])
    assert found.log_tails.tolist() == pytest.approx([math.log(0.25)] * 2, abs=1e-5)
    assert found.length == 4


def test_rounding_is_mended() -> None:
    found = to_sequence(1, [(0, [1], [1e-6])], vocab_size=None)
    assert found.log_probs.tolist() == [0.0]
    assert np.isfinite(found.log_tails).all()


def test_an_impossible_token_has_no_entry() -> None:
    found = to_sequence(1, [(0, [1, 2], [-0.5, -math.inf])], vocab_size=None)
    assert found.ids.tolist() == [1]


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        ([], [], "0 ids and 0 values"),
        ([1], [], "1 ids and 0 values"),
        ([1], [math.nan], "NaN"),
        ([1], [math.inf], "NaN or infinite"),
        ([1], [0.5], "0.5, which is above 0"),
        ([1], [None], "NaN or infinite|no number"),
        ([1], ["a"], "no number"),
        (["a"], [-1.0], "no number"),
        ([10], [-1.0], "token id 10, but the vocabulary has 10"),
        ([-1], [-1.0], "token id -1"),
        ([3, 3], [-1.0, -2.0], "token id twice"),
        ([3, 4], [-0.1, -0.1], "sum to 1.8"),
        ([3], [-math.inf], "no token with a probability above 0"),
    ],
)
def test_a_wrong_number_is_refused(ids: Any, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_sequence(1, [(0, ids, values)], vocab_size=10)


def test_values_alone_are_checked() -> None:
    check_values(0, [-1.0, -math.inf, 0.0])
    with pytest.raises(ValueError, match="position 7"):
        check_values(7, [1.0])
