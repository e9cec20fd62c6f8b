from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kdlight.remote.answers import check_values, crop, to_sequence


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


def test_cropping_is_the_softmax_of_what_is_left() -> None:
    p = np.array([0.4, 0.3, 0.2, 0.05, 0.05])
    whole = to_sequence(1, [(0, [0, 1, 4], np.log(p[[0, 1, 4]]).tolist())], vocab_size=5)
    cropped = crop(whole, 4)
    wanted = p[:4] / p[:4].sum()
    assert cropped.ids.tolist() == [0, 1]
    assert np.exp(cropped.log_probs) == pytest.approx(wanted[:2], abs=1e-6)
    assert np.exp(cropped.log_tails) == pytest.approx(wanted[2:].sum(), abs=1e-6)
    assert crop(whole, 5) is whole


def test_a_position_that_loses_all_tokens_is_refused() -> None:
    whole = to_sequence(2, [(0, [1], [-0.5]), (1, [7], [-0.5])], vocab_size=8)
    with pytest.raises(ValueError, match="only tokens from 5 on"):
        crop(whole, 5)
